"""``gemini-batch report``, as a shell runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.emulator.credentials import service_account_info
from tests.results.lines import answered, asked, failed

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.results.conftest import Lander


@pytest.fixture
def landed(lander: Lander, vertex: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments for a job that is landed, on a machine with credentials; the service has forgotten it."""
    key = tmp_path / "key.json"
    key.write_text(json.dumps(service_account_info(f"{vertex.url}/token", lander.bigquery.project)))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    lander.put_input(asked("a"), asked("b", "a secret prompt"), asked("c"))
    lander.put_output(answered("a"), failed("b", 429, "RESOURCE_EXHAUSTED", "Busy"))
    lander.land()
    return ["report", str(lander.job().name), "--table", str(lander.destination)]


def test_on_the_terminal(landed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(landed) == 0
    out, err = capsys.readouterr()
    assert "1 of 3 rows succeeded (33.3%); 2 of the other 2 may succeed if resubmitted." in out
    assert "succeeded  failed  missing" in out
    assert "1     failed   b            Busy" in out
    assert "secret" not in out
    assert "without the job's own times: Vertex AI returned 404 NOT_FOUND" in err


def test_a_page_in_a_file(landed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.html"
    assert main([*landed, "--output", str(file)]) == 0
    assert f"Written to {file}" in capsys.readouterr().out
    page = file.read_text()
    assert page.startswith("<!doctype html>")
    assert "1 of 3 rows succeeded" in page


def test_a_page_on_standard_output(landed: list[str]) -> None:
    """And nothing else: in a process of its own, since Airflow, once imported, logs there."""
    command = [sys.executable, "-m", "airflow_gemini_batch.cli", *landed, "--output", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.rstrip().endswith("</html>")


def test_a_page_in_cloud_storage(
    landed: list[str], lander: Lander, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*landed, "--output", f"gs://{lander.bucket}/reports/"]) == 0
    name = f"reports/{lander.job_id}.html"
    assert f"Written to gs://{lander.bucket}/{name}" in capsys.readouterr().out
    assert lander.storage.bucket(lander.bucket).blob(name).exists()


def test_a_job_that_is_not_in_the_table(landed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    landed[1] = landed[1].rpartition("/")[0] + "/4711"
    assert main(landed) == 1
    assert "has no rows of projects/" in capsys.readouterr().err


@pytest.mark.parametrize(("place", "wrong", "said"), [(1, "4711", "JOB='4711'"), (3, "d.t", "--table='d.t'")])
def test_wrong_usage(place: int, wrong: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "projects/p/locations/l/batchPredictionJobs/1", "--table", "p.d.t"]
    arguments[place] = wrong
    assert main(arguments) == 2
    assert f"gemini-batch report: {said}" in capsys.readouterr().err
