"""The doctor against the emulator, through the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.emulator.credentials import connection_json
from airflow_gemini_batch.emulator.server import Emulator
from airflow_gemini_batch.local_stack.stack import stay_on_loopback
from tests.doctor.clouds import ARGUMENTS, HEALTHY, NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_gemini_batch.emulator.access.cloud import Cloud


@dataclass
class Doctor:
    """Runs ``gemini-batch doctor``."""

    emulator: Emulator
    capsys: pytest.CaptureFixture[str]

    def text(self, cloud: Cloud, *more: str) -> tuple[int, str]:
        """Return the exit code and what it prints."""
        self.emulator.cloud = cloud
        self.capsys.readouterr()
        code = main([*ARGUMENTS, *more])
        return code, self.capsys.readouterr().out

    def findings(self, cloud: Cloud, *more: str) -> dict[str, dict[str, Any]]:
        """Return the findings by the name of the check."""
        _, text = self.text(cloud, "--json", *more)
        return {each["check"]: each for each in json.loads(text)["findings"]}


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    stay_on_loopback()
    with Emulator(cloud=HEALTHY) as running:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", running.url)
        monkeypatch.setenv("GEMINI_BATCH_APIS_URL", running.apis_url)
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection_json(running.url, NAME))
        for name in ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"):
            monkeypatch.delenv(name, raising=False)
        yield running


@pytest.fixture
def doctor(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(emulator, capsys)
