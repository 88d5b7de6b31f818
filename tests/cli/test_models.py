"""``gemini-batch models``, as a shell runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.models import models

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_model_has_a_line_with_what_people_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "unknown ×" not in out
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip().startswith("gemini-")}
    assert set(models().models) <= set(lines)
    assert "0.75 / 4.5 × 1.1" in lines["gemini-3.5-flash"]
    assert "2027-05-19+" in lines["gemini-3.5-flash"]
    assert "1,000,000" in lines["gemini-embedding-001"]
    assert "global, eu, us" in lines["gemini-3.1-flash-lite"]
    assert "northamerica-northeast1" in out
    assert "  gemini-2.0-flash        gemini-3.1-flash-lite" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["as_of"] == "2026-08-22"
    rows = {row["model"]: row for row in document["models"]}
    assert set(rows) == {*models().models, *models().retired}
    assert rows["gemini-3.5-flash"]["batch_usd_per_million_tokens"] == {"input": 0.75, "output": 4.5}
    assert rows["gemini-3.5-flash"]["locations"][:3] == ["global", "eu", "us"]
    assert rows["gemini-2.0-flash"]["is_retired"]


def test_a_newer_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "models.json"
    file.write_text('{"as_of": "2027-07-07", "models": {"gemini-9-flash": {"locations": ["eu"]}}}')
    monkeypatch.setenv("GEMINI_BATCH_MODELS", str(file))
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "gemini-9-flash" in out
    assert "2027-07-07" in out
    monkeypatch.setenv("GEMINI_BATCH_MODELS", str(tmp_path / "none"))
    assert main(["models"]) == 1
    assert "GEMINI_BATCH_MODELS" in capsys.readouterr().err
