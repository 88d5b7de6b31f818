"""A real Airflow, 3 or 2.11, with two triggerers on the local stack."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from airflow_gemini_batch.local_stack import airflow_home
from airflow_gemini_batch.local_stack.rest import call
from airflow_gemini_batch.local_stack.service import Service, isolated_environment
from airflow_gemini_batch.local_stack.stack import LOCATION, LocalStack, StackAddresses, free_port

from .airflow_2 import RUN_ID, TASK_ID
from .cells import CELLS

if TYPE_CHECKING:
    from types import TracebackType

    from .cells import Event

VERSION = version("apache-airflow")
MAJOR = int(VERSION.partition(".")[0])
BUCKET = "stopping"
ROWS = 3
_AIRFLOW = (sys.executable, "-m", "airflow")
_ROOT = Path(__file__).parents[2]
_PARTS = {2: ("scheduler", "triggerer"), 3: ("api-server", "scheduler", "dag-processor", "triggerer")}
_SDKS = (
    "google.genai.types",
    "google.cloud.bigquery",
    "google.cloud.storage",
    "google.oauth2.service_account",
)
_START_SECONDS = 300.0


class Airflow:
    """Airflow's processes, and what a user does to the tasks of its runs.

    :param directory: for data and logs
    :param pace: how fast jobs run; see the emulator
    """

    def __init__(self, directory: Path, *, pace: str) -> None:
        self.directory = directory
        self._pace = pace
        self._database = directory / "airflow" / "airflow.db"
        self._cleanup = ExitStack()
        self._settings: dict[str, str] = {}
        self._user: subprocess.Popen[str] | None = None
        self._api = self._token = ""
        self._lock = threading.Lock()
        self.addresses: StackAddresses

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def trigger(self, dag_ids: list[str]) -> None:
        """Start a run of each DAG."""
        self._act("trigger", dag_ids)

    def do(self, event: Event, dag_id: str) -> None:
        """Do to a task what a user does."""
        self._act(event.name.lower(), [dag_id])

    def task(self, dag_id: str) -> tuple[str | None, int]:
        """The state of the task of a DAG, and the number of its try."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self._database}?mode=ro", timeout=30, uri=True)
        ) as database:
            rows = database.execute(
                "SELECT state, try_number FROM task_instance WHERE dag_id = ? AND run_id = ?",
                (dag_id, RUN_ID),
            ).fetchall()
        return rows[0] if rows else (None, 0)

    def jobs(self, dag_id: str) -> list[dict[str, Any]]:
        """The batch jobs of a DAG."""
        parent = f"projects/{self.addresses.project}/locations/{LOCATION}/batchPredictionJobs"
        page = call(f"{self.addresses.vertex_url}/v1/{parent}?pageSize=100")
        jobs: list[dict[str, Any]] = page.get("batchPredictionJobs", [])
        return [job for job in jobs if job["displayName"].startswith(f"{dag_id} ")]

    def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.addresses = self._cleanup.enter_context(LocalStack(self.directory / "stack", pace=self._pace))
        self._upload()
        port = free_port()
        self._settings = {
            **airflow_home.create(self.directory / "airflow", Path(__file__).parent / "dags"),
            **airflow_home.server_settings(port),
            **self.addresses.environment(),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}?timeout=30",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            # A trigger that is killed first has to wait until its triggerer has built an API client.
            "AIRFLOW__TRIGGERER__ON_KILL_TIMEOUT": "120",
            # Airflow 2 allows one task at a time on SQLite unless told otherwise.
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(_ROOT),
        }
        self._preload_sdks()
        with (self.directory / "migrate.log").open("wb") as log:
            migrate = [*_AIRFLOW, "db", "migrate"]
            subprocess.run(migrate, check=True, stdout=log, stderr=log, env=self._environment)
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            # Readers do not block writers in this mode.
            database.execute("PRAGMA journal_mode=WAL")
        for part in (*_PARTS[MAJOR], "triggerer"):
            service = Service(part, [*_AIRFLOW, part], self._log(part), self._settings)
            service.start()
            self._cleanup.callback(service.stop)
        self._connect(port)

    def _preload_sdks(self) -> None:
        """Have the scheduler import what a task imports, which takes seconds: workers are forks of it."""
        settings = self.directory / "airflow" / "config" / "airflow_local_settings.py"
        condition = 'import sys\n\nif {"scheduler", "triggerer"} & set(sys.argv[1:2]):\n'
        imports = "".join(f"    import {module}\n" for module in _SDKS)
        settings.write_text(f"{settings.read_text()}\n{condition}{imports}")

    @property
    def _environment(self) -> dict[str, str]:
        return {**isolated_environment(), **self._settings}

    def _log(self, part: str) -> Path:
        return self.directory / f"{part}-{len(list(self.directory.glob(f'{part}-*.log')))}.log"

    def _upload(self) -> None:
        call(f"{self.addresses.storage_url}/storage/v1/b?project={self.addresses.project}", {"name": BUCKET})
        lines = (
            {"key": f"k{n}", "request": {"contents": [{"role": "user", "parts": [{"text": f"Hello {n}"}]}]}}
            for n in range(ROWS)
        )
        text = "".join(json.dumps(line) + "\n" for line in lines)
        upload = f"{self.addresses.storage_url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media"
        call(f"{upload}&name=requests.jsonl", raw=text.encode())

    def _connect(self, port: int) -> None:
        if MAJOR == 2:
            with self._log("user").open("wb") as log:
                self._user = subprocess.Popen(
                    [sys.executable, "-m", "tests.stopping.airflow_2"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=self._environment,
                )
            self._cleanup.callback(self._user.wait)
            self._cleanup.callback(_pipe(self._user.stdin).close)
            self._expect("ready")
        url = f"http://127.0.0.1:{port}"
        self._api = f"{url}/api/v2"
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_up(url):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Airflow is not up after {_START_SECONDS:.0f} s; see {self.directory}")
            time.sleep(1)

    def _is_up(self, url: str) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if MAJOR == 3:
                self._token = self._token or call(f"{url}/auth/token")["access_token"]
            with contextlib.closing(sqlite3.connect(self._database, timeout=30)) as database:
                counts = {
                    "dag": len(CELLS),
                    "serialized_dag": len(CELLS),
                    "job WHERE job_type = 'TriggererJob' AND state = 'running'": 2,
                }
                return all(
                    database.execute(f"SELECT count(*) FROM {rows}").fetchone()[0] == count
                    for rows, count in counts.items()
                )
        return False

    def _act(self, action: str, dag_ids: list[str]) -> None:
        with self._lock:
            self._act_alone(action, dag_ids)

    def _act_alone(self, action: str, dag_ids: list[str]) -> None:
        if self._user:
            _pipe(self._user.stdin).write(f"{action} {' '.join(dag_ids)}\n")
            _pipe(self._user.stdin).flush()
            self._expect("done")
            return
        for dag_id in dag_ids:
            dag = f"dags/{dag_id}"
            if action == "trigger":
                self._send("POST", f"{dag}/dagRuns", {"logical_date": None, "dag_run_id": RUN_ID})
            elif action == "clear":
                body = {"dry_run": False, "dag_run_id": RUN_ID, "task_ids": [TASK_ID], "only_failed": False}
                self._send("POST", f"{dag}/clearTaskInstances", {**body, "reset_dag_runs": True})
            else:
                state = {"new_state": "failed" if action == "mark_failed" else "success"}
                self._send("PATCH", f"{dag}/dagRuns/{RUN_ID}/taskInstances/{TASK_ID}", state)

    def _send(self, method: str, path: str, body: object) -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(  # noqa: S310  # always http://127.0.0.1
            f"{self._api}/{path}", json.dumps(body).encode(), headers, method=method
        )
        for _ in range(10):
            try:
                urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
                return
            except urllib.error.HTTPError as error:
                if error.code == 409:  # An earlier request took effect.
                    return
                if error.code < 500:
                    raise
            time.sleep(1)  # SQLite was locked.
        raise TimeoutError(f"{method} {path} failed ten times; see {self.directory}")

    def _expect(self, answer: str) -> None:
        assert self._user
        for line in _pipe(self._user.stdout):
            if line.strip() == answer:
                return
        raise RuntimeError(f"the process that acts as a user ended; see {self.directory}")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe
    return pipe
