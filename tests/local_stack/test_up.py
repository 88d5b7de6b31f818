"""``gemini-batch up`` and ``down``, with real Airflow processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.local_stack import samples, standalone
from airflow_gemini_batch.local_stack.places import example_dags
from airflow_gemini_batch.local_stack.rest import call, query
from airflow_gemini_batch.local_stack.service import isolated_environment
from airflow_gemini_batch.local_stack.standalone import Running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

DAG_ID = "gemini_batch_gcs_to_gcs"


def output_of(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def gemini_batch(*arguments: str, **variables: str) -> str:
    command = [sys.executable, "-m", "airflow_gemini_batch.cli", *arguments]
    return output_of(command, {**os.environ, **variables})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    shutil.copytree(example_dags(), folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def running(directory: Path, dags: Path) -> Iterator[Running]:
    # The job advances with each read, so it cannot end before the sensor waits for it.
    output = gemini_batch(
        "up",
        *("--directory", str(directory), "--dags", str(dags), "--pace", "reads:2"),
        AIRFLOW__METRICS__STATSD_PREFIX="100%",
        AIRFLOW__CORE__LOAD_EXAMPLES="True",
    )
    running = Running.read(directory)
    assert running
    assert "PRIVATE KEY" not in output
    assert f"source {directory / 'environment.sh'}" in output
    assert "2 at a time" in output
    assert "global where none is set" in output
    yield running
    gemini_batch("down", "--directory", str(directory))


class Airflow:
    """A client for the few calls of the public REST API that the test needs."""

    def __init__(self, url: str) -> None:
        self.api = f"{url}/api/v2"
        self.token = call(f"{url}/auth/token")["access_token"]

    def call(self, path: str, body: object = None) -> dict[str, Any]:
        return call(f"{self.api}/{path}", body, token=self.token)

    def run(self, dag_id: str, seconds: float) -> tuple[str, set[tuple[str, str]]]:
        """Run a DAG until it ends; return its state, and every observed pair of task and state."""
        run_id = self.call(f"dags/{dag_id}/dagRuns", {"logical_date": None})["dag_run_id"]
        run = f"dags/{dag_id}/dagRuns/{run_id}"
        deadline = time.monotonic() + seconds
        seen = set()
        while time.monotonic() < deadline:
            state = self.call(run)["state"]
            tasks = self.call(f"{run}/taskInstances")["task_instances"]
            seen |= {(task["task_id"], task["state"]) for task in tasks}
            if state in ("success", "failed"):
                return state, seen
            time.sleep(0.2)
        raise TimeoutError(f"{dag_id} is {state} after {seconds} s: {sorted(seen, key=str)}")


def test_a_run_through_real_processes_lands_every_row(running: Running) -> None:
    assert running.addresses
    state, seen = Airflow(running.airflow_url).run(DAG_ID, 180)
    assert state == "success", seen
    assert ("wait", "deferred") in seen
    jobs = f"v1/projects/{running.addresses.project}/locations/global/batchPredictionJobs"
    (job,) = call(f"{running.addresses.vertex_url}/{jobs}")["batchPredictionJobs"]
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    table = f"{running.addresses.project}.{samples.DATASET}.answers_gcs_gcs"
    rows = query(running.addresses, f"SELECT key, status FROM `{table}` ORDER BY key")
    assert rows == sorted([request["key"], "succeeded"] for request in samples.sample())


def test_the_command_line_of_airflow_knows_the_stack_by_its_home(
    running: Running, directory: Path, dags: Path
) -> None:
    program = (
        "from airflow.configuration import conf\n"
        "names = ('core', 'dags_folder'), ('core', 'load_examples'), ('metrics', 'statsd_prefix')\n"
        "print([conf.get(*name) for name in names], conf.get('database', 'sql_alchemy_conn'))\n"
        "print(conf.get('core', 'fernet_key'), conf.get('api', 'secret_key'))\n"
        "import os; from airflow.sdk import BaseHook\n"
        "project = BaseHook.get_connection('google_cloud_default').extra_dejson['project']\n"
        "print(os.environ['GOOGLE_VERTEX_BASE_URL'], os.environ['STORAGE_EMULATOR_HOST'], project)"
    )
    environment = {**isolated_environment(), "AIRFLOW_HOME": str(directory / "airflow")}
    command = [sys.executable, "-c", program]
    found, again = (
        subprocess.check_output(command, text=True, env=environment).splitlines()[-3:] for _ in range(2)
    )
    settings = [str(dags), "False", "100%"]
    assert found[0] == f"{settings} sqlite:///{directory}/airflow/airflow.db"
    # What one process encrypts or signs, another one must read, and nobody else.
    assert found == again
    assert all(found[1].split(" "))
    # A task on the command line must not reach the real Google Cloud.
    assert running.addresses
    addresses = running.addresses
    assert found[2] == f"{addresses.vertex_url} {addresses.storage_url} {addresses.project}"
    for secret in ("airflow.cfg", "config/airflow_local_settings.py"):
        assert (directory / "airflow" / secret).stat().st_mode & 0o777 == 0o600


def test_a_second_up_reports_the_first(running: Running, directory: Path) -> None:
    output = gemini_batch("up", "--directory", str(directory))
    assert "The local stack is already running" in output
    assert running.airflow_url in output
    assert Running.read(directory) == running


def test_the_api_that_tasks_call_is_warm(running: Running) -> None:
    began = time.monotonic()
    call(f"{running.airflow_url}/execution/health")
    assert time.monotonic() - began < 2


def test_the_variables_are_in_a_file_that_only_this_user_can_read(running: Running, directory: Path) -> None:
    script = directory / "environment.sh"
    assert script.stat().st_mode & 0o777 == 0o600
    command = ["bash", "-c", f'source "{script}"; env']
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert running.addresses
    expected = running.addresses.environment()
    # Its key is new in each process.
    assert expected.pop("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT")
    assert {f"{name}={value}" for name, value in expected.items()} <= set(found)
    assert any(line.startswith("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT={") for line in found)


def test_a_new_dag_file_appears_soon(running: Running, dags: Path) -> None:
    lines = (
        "from airflow.sdk import DAG, task",
        "with DAG('brand_new'):",
        "    task(lambda: 1, task_id='one')()",
    )
    (dags / "brand_new.py").write_text("\n".join(lines))
    airflow, deadline = Airflow(running.airflow_url), time.monotonic() + 60
    while not airflow.call("dags?dag_id_pattern=brand_new")["dags"]:
        assert time.monotonic() < deadline
        time.sleep(1)


def test_another_pace_is_refused_while_it_runs(
    running: Running, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--directory", str(directory), "--pace", "seconds:60"]) == 1
    error = capsys.readouterr().err
    assert "already running, with --pace reads:2. To use seconds:60" in error
    assert f"`{sys.executable} -m airflow_gemini_batch.cli down --directory {directory}` first" in error
    assert main(["up", "--directory", str(directory), "--pace", "reads:2"]) == 0


def test_another_dag_folder_is_refused_while_it_runs(
    running: Running, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--directory", str(directory), "--dags", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"with the DAGs in {running.dags}" in error
    assert f"`{sys.executable} -m airflow_gemini_batch.cli down --directory {directory}` first" in error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--dags", "/no/such/dags"), "argument --dags: '/no/such/dags' is not a folder"),
        (("--pace", "5"), "argument --pace: pace='5': give immediate, reads:N, seconds:N"),
    ],
)
def test_a_bad_argument_is_refused_before_one_is_told_to_stop(
    running: Running,
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    complaint: str,
) -> None:
    with pytest.raises(SystemExit):
        main(["up", "--directory", str(directory), *arguments])
    error = capsys.readouterr().err
    assert complaint in error
    assert "already running" not in error


@pytest.mark.parametrize("command", ["up", "down"])
@pytest.mark.parametrize(("directory", "complaint"), [("", "it is empty"), (__file__, "is not a folder")])
def test_data_needs_a_folder(
    command: str, directory: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--directory", directory])
    assert complaint in capsys.readouterr().err


def test_airflow_2_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(standalone, "version", lambda _: "2.11.2")
    assert main(["up", "--directory", str(tmp_path)]) == 1
    assert "needs Airflow 3" in capsys.readouterr().err


def test_down_without_up(tmp_path: Path) -> None:
    assert f"Nothing is running in {tmp_path}." in gemini_batch("down", "--directory", str(tmp_path))


def test_airflow_answers_no_page_of_another_site(running: Running) -> None:
    dags = f"{running.airflow_url}/api/v2/dags"
    assert status_of(dags, {}) in (200, 401)
    assert status_of(dags, {"Sec-Fetch-Site": "same-origin"}) in (200, 401)
    page = {"Sec-Fetch-Site": "cross-site"}
    assert status_of(running.airflow_url, {**page, "Sec-Fetch-Mode": "navigate"}) == 200
    for headers in (page, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert status_of(dags, headers) == 403


def status_of(url: str, headers: dict[str, str]) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
