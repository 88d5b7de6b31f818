"""Models whose jobs take few requests, so that a test needs few."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_gemini_batch.settings import MODELS_FILE

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MODEL = "gemini-3.5-flash"


def make_jobs_small(monkeypatch: pytest.MonkeyPatch, folder: Path, rows: int) -> None:
    """Let a job of :data:`MODEL` take this many requests."""
    file = folder / "small_jobs.json"
    file.write_text(json.dumps({"as_of": "2027-01-01", "models": {MODEL: {"max_rows": rows}}}))
    monkeypatch.setenv(MODELS_FILE.variable, str(file))
