"""The emulator as a process of its own, and as a fixture in the tests of others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.emulator.credentials import connection_json
from tests.emulator.wire import Http

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "airflow_gemini_batch.cli", "emulator"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "--pace", "reads:1"], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as started:
        yield started
        started.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(process: subprocess.Popen[str], number: int) -> None:
    assert process.stdout
    first, _, source = (process.stdout.readline().strip() for _ in range(3))
    script = Path(source.removeprefix("source "))
    assert script.stat().st_mode & 0o777 == 0o600
    url, *connection = script.read_text().splitlines()
    address = url.removeprefix("export GOOGLE_VERTEX_BASE_URL=")
    assert address in first
    assert connection[0].startswith("export AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT='{")
    assert Http(address)("GET") == (200, {})
    process.send_signal(number)
    assert process.wait(10) == 0
    assert not script.exists()


def test_the_command_takes_a_fault_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"calls": [{"route": "list", "kind": "status", "status": 429}]}')
    with subprocess.Popen(
        [*COMMAND, "--faults", str(plan)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as started:
        assert started.stdout
        first = started.stdout.readline()
        assert Http("http://" + first.split("http://")[1].split()[0])("GET")[0] == 429
        started.kill()


def test_the_command_enforces_quotas() -> None:
    with subprocess.Popen(
        [*COMMAND, "--quotas", "600"], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as started:
        assert started.stdout
        http = Http("http://" + started.stdout.readline().split("http://")[1].split()[0])
        assert [http("GET")[0] for _ in range(601)] == [200] * 600 + [429]
        refused = {"management": 1}
        assert http("GET", "/_emulator/usage") == (
            200,
            {"management": 600, "submission": 0, "count_tokens": 0, "refused": refused},
        )
        started.kill()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--pace", "soon"], "argument --pace: pace='soon': give immediate"),
        (["--port", "http"], "'http' is not a port"),
        (["--port", "99999"], "'99999' is not a port"),
        (["--quotas", "0"], "'0' is not a number of seconds greater than 0"),
        (["--faults", "no-such-file.json"], "--faults='no-such-file.json': No such file"),
        (["--faults", __file__], "--faults='…': invalid JSON"),
    ],
)
def test_bad_arguments_are_explained(arguments: list[str], complaint: str) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_port_that_is_taken_is_explained(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    port = process.stdout.readline().split("127.0.0.1:")[1].split("/")[0]
    arguments = [*COMMAND, "--port", port]
    done = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 1
    assert f"Cannot listen on port {port}" in done.stderr


TEST_OF_A_USER = """
import json, os, sys, urllib.request

assert "airflow" not in sys.modules
assert "http.server" not in sys.modules

def test_theirs(gemini_batch_emulator, gemini_batch_connection):
    assert os.environ["GOOGLE_VERTEX_BASE_URL"] == gemini_batch_emulator.url
    assert gemini_batch_connection == "google_cloud_default"
    connection = json.loads(os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"])
    assert connection["extra"]["keyfile_dict"]["token_uri"] == gemini_batch_emulator.url + "/token"
    assert gemini_batch_emulator.jobs == ()

def test_nothing_is_left():
    assert "GOOGLE_VERTEX_BASE_URL" not in os.environ
"""


def test_the_fixtures_work_in_a_project_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(TEST_OF_A_USER)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    environment = {**ENVIRONMENT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("GOOGLE_VERTEX_BASE_URL", None)
    plugin = "airflow_gemini_batch.pytest_plugin"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_plugin_imports_nothing_that_costs() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules)\n"
        "import airflow_gemini_batch.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert done.stdout.split() == [
        "airflow_gemini_batch",
        "airflow_gemini_batch.pytest_plugin",
    ]


def test_the_key_is_made_once_and_is_a_key() -> None:
    from google.oauth2 import service_account

    first, second = connection_json("http://127.0.0.1:1", "p"), connection_json("http://127.0.0.1:1", "p")
    assert first == second
    import json

    info = json.loads(first)["extra"]["keyfile_dict"]
    assert service_account.Credentials.from_service_account_info(info).project_id == "p"
