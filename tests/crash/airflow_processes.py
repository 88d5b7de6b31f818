"""A real Airflow whose processes can be killed one by one, with a proxy in front of every server it calls."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.local_stack import airflow_home
from airflow_gemini_batch.local_stack.rest import call
from airflow_gemini_batch.local_stack.service import Service, isolated_environment
from airflow_gemini_batch.local_stack.stack import LOCATION, LocalStack, StackAddresses, free_port

from .processes import children_of, family_of, kill
from .wire import AIRFLOW, BIGQUERY, STORAGE, VERTEX, Proxy, Wire

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS = 300.0
_READS = 5
DAGS = Path(__file__).parent / "dags"
PLUGINS = Path(__file__).parent / "plugins"
_SDKS = (
    "google.genai.types",
    "google.cloud.bigquery",
    "google.cloud.storage",
    "google.oauth2.service_account",
    "google.auth.impersonated_credentials",
    "google.auth.transport.requests",
    "googleapiclient.discovery",
    "genai_prices",
)
LANDING_POOL = "landing"
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class Airflow:
    """The local stack, Airflow on it, and the proxies between them.

    :param directory: for data and logs
    :param pace: how fast jobs run; see the emulator
    :param parallelism: number of concurrent tasks
    :param dag_ids: to wait for
    :param timeout: seconds without a heartbeat after which Airflow considers a task dead
    :param quotas: seconds that a minute of Vertex AI's quotas lasts; default: no quotas
    :param dags: the DAG folder
    :param database: URL of Airflow's database; default SQLite, which supports a handful of concurrent tasks
    """

    def __init__(
        self,
        directory: Path,
        *,
        pace: str,
        parallelism: int,
        dag_ids: tuple[str, ...],
        timeout: int = 15,
        database: str | None = None,
        quotas: float | None = None,
        dags: Path = DAGS,
    ) -> None:
        self.directory = directory
        self._dags = dags
        self.wire = Wire()
        self._pace, self._parallelism, self._dag_ids = pace, parallelism, dag_ids
        self._heartbeat_timeout = timeout
        self._quotas = quotas
        self._sqlite = None if database else directory / "airflow" / "airflow.db"
        self._database = database or f"sqlite:///{self._sqlite}?timeout=10"
        self._cleanup = ExitStack()
        self._lock = threading.Lock()
        self.writing = threading.Lock()
        self._services: dict[str, Service] = {}
        self._settings: dict[str, str] = {}
        self.addresses: StackAddresses
        self._api = ""
        self._token = ""

    def __enter__(self) -> Airflow:
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

    def call(self, path: str, body: object = None) -> dict[str, Any]:
        """Call Airflow's public API; reads are retried."""
        for _ in range(0 if body else _READS):
            with contextlib.suppress(OSError):
                return call(f"{self._api}/{path}", token=self._token)
            time.sleep(1)
        return call(f"{self._api}/{path}", body, token=self._token)

    def jobs(self, filter_: str) -> list[dict[str, Any]]:
        """The jobs of the Vertex AI emulator that match a filter."""
        from urllib.parse import urlencode

        parent = f"projects/{self.addresses.project}/locations/{LOCATION}/batchPredictionJobs"
        found: list[dict[str, Any]] = []
        query = {"filter": filter_, "pageSize": "100"}
        while True:
            page = call(f"{self.addresses.vertex_url}/v1/{parent}?{urlencode(query)}")
            found += page.get("batchPredictionJobs", [])
            if not page.get("nextPageToken"):
                return found
            query["pageToken"] = page["nextPageToken"]

    def charged_rows(self) -> dict[str, int]:
        """The rows that are charged, by job, whatever the job says of them."""
        rows: dict[str, int] = call(f"{self.addresses.vertex_url}/_emulator/charged")
        return rows

    def kill_triggerer(self) -> None:
        """Kill the triggerer and start a new one."""
        with self._lock:
            service = self._services["triggerer"]
            assert service._process
            leaders = children_of(service._process.pid)
            kill([pid for leader in leaders for pid in family_of(leader)])
            service.stop()
            self._run("triggerer")

    def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.addresses = self._cleanup.enter_context(
            LocalStack(self.directory / "stack", pace=self._pace, quotas=self._quotas)
        )
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self._api = f"{url}/api/v2"
        upstreams = {
            STORAGE: self.addresses.storage_url,
            BIGQUERY: self.addresses.bigquery_url,
            VERTEX: self.addresses.vertex_url,
            AIRFLOW: url,
        }
        proxies = {
            name: self._cleanup.enter_context(Proxy(self.wire, name, upstream)).url
            for name, upstream in upstreams.items()
        }
        proxied = replace(
            self.addresses,
            storage_url=proxies[STORAGE],
            bigquery_url=proxies[BIGQUERY],
            vertex_url=proxies[VERTEX],
        )
        self._settings = {
            **airflow_home.create(self.directory / "airflow", self._dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
            "AIRFLOW__CORE__TASK_SUCCESS_OVERTIME": "5",
            **airflow_home.server_settings(port),
            **proxied.environment(),
            **self._short_timeouts(),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._database,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{proxies[AIRFLOW]}/execution/",
            "AIRFLOW__CORE__PARALLELISM": str(self._parallelism),
            "PYTHONUNBUFFERED": "1",
        }
        self._preload_sdks()
        self._airflow("db", "migrate")
        if self._sqlite:
            # Readers do not block writers in this mode; the default mode cannot serve six concurrent tasks.
            with contextlib.closing(sqlite3.connect(self._sqlite)) as database:
                database.execute("PRAGMA journal_mode=WAL")
        for part in PARTS:
            self._run(part)
        self._cleanup.callback(self._stop)
        self._wait_until_healthy(url)
        # One landing at a time: concurrent transactions fail each other in the BigQuery emulator.
        self.call("pools", {"name": LANDING_POOL, "slots": 1, "include_deferred": True})

    def _short_timeouts(self) -> dict[str, str]:
        """Airflow notices dead processes in seconds instead of minutes."""
        return {
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(self._heartbeat_timeout),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.4",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "3",
            "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MIN": "0.2",
            "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "1",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        }

    def _preload_sdks(self) -> None:
        """Have the scheduler import the SDKs, which takes 3 s: workers are forks of it."""
        settings = self.directory / "airflow" / "config" / "airflow_local_settings.py"
        # Airflow cannot be imported from this file, so this lists what the hook imports.
        imports = "".join(f"    import {module}\n" for module in _SDKS)
        condition = 'import sys\n\nif {"scheduler", "triggerer"} & set(sys.argv[1:2]):\n'
        settings.write_text(f"{settings.read_text()}\n{condition}{imports}")

    def _run(self, part: str) -> None:
        log = self.directory / f"{part}-{time.monotonic_ns()}.log"
        service = Service(part, [*_AIRFLOW, part], log, self._settings)
        service.start()
        self._services[part] = service

    def _stop(self) -> None:
        # The scheduler first, because it waits for its tasks, and those need the api-server.
        for part in ("scheduler", "triggerer", "dag-processor", "api-server"):
            self._services[part].stop()

    def _airflow(self, *arguments: str) -> None:
        with (self.directory / "airflow.log").open("ab") as log:
            subprocess.run(
                [*_AIRFLOW, *arguments],
                check=True,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**isolated_environment(), **self._settings},
            )

    def _wait_until_healthy(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        missing = {*self._dag_ids, "health"}
        while missing:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, ValueError, KeyError):
                health = call(f"{url}/api/v2/monitor/health")
                parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
                if all((health.get(part) or {}).get("status") == "healthy" for part in parts):
                    missing.discard("health")
                self._token = self._token or call(f"{url}/auth/token")["access_token"]
                for dag_id in missing - {"health"}:
                    call(f"{self._api}/dags/{dag_id}", token=self._token)
                    missing.discard(dag_id)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"Airflow is not up after {START_SECONDS:.0f} s; see {self.directory}: {missing}"
                )
            time.sleep(0.3)

    def last_errors(self, run: str) -> str:
        """The last error in the log of each task of a run."""
        logs = (self.directory / "airflow" / "logs").glob(f"*/run_id={run}/**/*.log")
        return "\n".join(_last_error(log) for log in sorted(logs))


def _last_error(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("error_detail") or entry.get("level") == "error":
                return f"{log.parent.name}/{log.name}: {json.dumps(entry)[:600]}"
    return f"{log.parent.name}/{log.name}: {lines[-1][:300] if lines else 'empty'}"


_AIRFLOW = (sys.executable, "-m", "airflow")
