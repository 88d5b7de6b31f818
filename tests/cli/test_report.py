"""``gemini-batch report``, as a shell runs it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.emulator.credentials import exports
from airflow_gemini_batch.local_stack.service import isolated_environment
from tests.results.lines import answered, asked, failed

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack
    from tests.results.conftest import Lander


@pytest.fixture
def landed(lander: Lander, vertex: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments for a job that is landed on the local stack; the service has forgotten it.

    The machine has no credentials.
    """
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", vertex.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "no-such-key.json"))
    lander.put_input(asked("a"), asked("b", "a secret prompt"), asked("c"))
    lander.put_output(answered("a"), failed("b", 429, "RESOURCE_EXHAUSTED", "Busy"))
    lander.land()
    return ["report", str(lander.job().name), "--table", str(lander.destination)]


def test_on_the_terminal(landed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(landed) == 0
    out, err = capsys.readouterr()
    assert "1 of 3 rows succeeded (33.3%); the other 2 may succeed if resubmitted." in out
    assert "succeeded  failed  missing" in out
    assert "1     failed   b            Busy" in out
    assert "secret" not in out
    assert "the times of the job are missing: Vertex AI returned 404 NOT_FOUND" in err


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


def test_without_an_emulator_of_vertex_ai(
    landed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GOOGLE_VERTEX_BASE_URL")
    assert main(landed) == 0
    out, err = capsys.readouterr()
    assert "1 of 3 rows succeeded" in out
    assert "the times of the job are missing: " in err


def test_without_credentials_or_emulators(
    landed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST")
    assert main(landed) == 1
    assert "gemini-batch: Found no credentials to read the tables: " in capsys.readouterr().err


def test_tables_are_in_the_project_of_the_job(landed: list[str]) -> None:
    landed[3] = landed[3].partition(".")[2]
    assert main([*landed, "--error-table", f"{landed[3]}_errors"]) == 0


def test_a_table_that_does_not_exist(landed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    landed[3] += "_not"
    assert main(landed) == 1
    assert capsys.readouterr().err.count("Not found") == 1


def test_a_job_that_is_not_in_the_table(landed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    landed[1] = landed[1].rpartition("/")[0] + "/4711"
    assert main(landed) == 1
    assert "has no rows of projects/" in capsys.readouterr().err


@pytest.mark.parametrize(("place", "wrong", "message"), [(1, "4711", "JOB='4711'"), (3, "t", "--table='t'")])
def test_wrong_usage(place: int, wrong: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "projects/p/locations/l/batchPredictionJobs/1", "--table", "p.d.t"]
    arguments[place] = wrong
    assert main(arguments) == 2
    assert f"gemini-batch report: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--gcp-conn-id", "google_cloud_default")])
def test_in_a_shell_with_the_variables_of_the_local_stack(
    landed: list[str], lander: Lander, stack: RunningStack, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """As ``source LOGS/environment.sh`` sets them; nothing of Google is asked."""
    script = tmp_path / "environment.sh"
    script.write_text(exports(stack.addresses.environment()))
    page = f"gs://{lander.bucket}/report.html"
    arguments = [sys.executable, "-m", "airflow_gemini_batch.cli", *landed, *more, "--output", page]
    environment = {
        **isolated_environment(),
        "AIRFLOW_HOME": os.environ["AIRFLOW_HOME"],
        # A call that leaves this machine fails, and is logged.
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    command = ["bash", "-c", f"source {shlex.quote(str(script))} && exec {shlex.join(arguments)}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 3 rows succeeded" in done.stdout
    assert "serviceAccounts" not in done.stderr
    assert f"Written to {page}" in done.stdout
