"""``gemini-batch up`` when Airflow has died behind it: what is on the disk and on the wire is made up."""

from __future__ import annotations

import fcntl
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.local_stack import airflow_home, standalone
from airflow_gemini_batch.local_stack.standalone import Running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEAD = {"scheduler"}


class Health(BaseHTTPRequestHandler):
    """An api-server whose scheduler sends no heartbeats."""

    def do_GET(self) -> None:
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        body = {part: {"status": "unhealthy" if part in DEAD else "healthy"} for part in parts}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A folder in which something runs."""
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "_ANSWER_SECONDS", 0.5)


def test_a_stack_whose_airflow_ended_says_so_once_with_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Running(1, "http://127.0.0.1:1", None, str(tmp_path), "seconds:3").write(tmp_path)
    (tmp_path / "up.log").write_text(f"Airflow ended. Its log is {tmp_path / 'airflow.log'}\n")
    assert main(["up", "--directory", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"Airflow ended. Its log is {tmp_path / 'airflow.log'}\n" in error
    assert "kept until the next `up`, which starts anew" in " ".join(error.split())
    assert standalone.find(tmp_path) is None


@pytest.mark.parametrize("words", ["", "The local stack was stopped while it was starting."])
def test_a_stack_that_was_stopped_or_did_not_start_is_started_anew(tmp_path: Path, words: str) -> None:
    """Whoever started it was told then."""
    Running(1, "" if words else "http://127.0.0.1:1", None, str(tmp_path), "seconds:3").write(tmp_path)
    (tmp_path / "up.log").write_text(words)
    assert standalone.find(tmp_path) is None


def test_a_part_of_airflow_that_died_is_named(
    directory: Path, api_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Running(1, api_server, None, str(directory), "seconds:3").write(directory)
    assert main(["up", "--directory", str(directory)]) == 1
    out, error = capsys.readouterr()
    assert "a part of Airflow does not answer: scheduler." in error
    assert f"log is {directory / 'airflow.log'}\n" in error
    assert f"down --directory {directory}`" in error
    assert "already running" not in out


def test_an_api_server_that_died_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Running(1, "http://127.0.0.1:1", None, str(directory), "seconds:3").write(directory)
    assert main(["up", "--directory", str(directory)]) == 1
    assert "a part of Airflow does not answer: api-server." in capsys.readouterr().err


def test_what_works_is_found(directory: Path, api_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.DEAD", set())
    Running(1, api_server, None, str(directory), "seconds:3").write(directory)
    assert standalone.find(directory) == Running.read(directory)


def test_sqlite_is_spared(tmp_path: Path) -> None:
    settings = airflow_home.server_settings(1)
    names = ("PARALLELISM", "MAX_ACTIVE_RUNS_PER_DAG", "MAX_ACTIVE_TASKS_PER_DAG")
    assert all(int(settings[f"AIRFLOW__CORE__{name}"]) <= 16 for name in names)
