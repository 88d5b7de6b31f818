"""Proxies between Airflow and every server it calls: they see each request and the run it belongs to.

The package under test is unchanged: what is killed or lost is chosen from the requests alone.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import struct
import sys
import threading
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .processes import Client, client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

VERTEX, STORAGE, BIGQUERY, AIRFLOW = "Vertex AI", "Cloud Storage", "BigQuery", "Airflow"

_TASK = re.compile(r"/task-instances/([0-9a-f-]{36})/run")
_JOB = re.compile(
    r"projects/[^/]+/locations/[^/]+/batchPredictionJobs/\d+|(?<=/jobs/)gemini-batch-land-[\w-]+"
)
_LANDING = b"gemini-batch-land-"
SLOW_SECONDS = 20.0
"""How long BigQuery's landing script runs, as clients are told; longer than a task waits on its worker."""
# Headers that a proxy must not forward, or writes itself.
_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "host"}
    # Responses are searched, so they must not be compressed.
    | {"accept-encoding"}
)


@dataclass
class Exchange:
    """A request and its response; ``status`` is 0 until there is one."""

    server: str
    method: str
    path: str
    body: bytes
    find: Callable[[], Client]
    task: str | None
    run: str | None = None
    status: int = 0
    response: bytes = b""

    @property
    def client(self) -> Client:
        """The process that sent the request, while it is alive."""
        return self.find()


class ResponseLost(Exception):  # noqa: N818  # an injected failure, not an error
    """The client gets no response."""


@dataclass
class Wire:
    """All requests, by run.

    :param watchers: by run; called with each of its requests, before and after the server processes it; may
        raise :class:`ResponseLost` to withhold the response from the client
    :param slow: runs in which BigQuery takes :data:`SLOW_SECONDS` to land
    """

    seen: dict[str, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    watchers: dict[str, Callable[[Exchange], None]] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    _begun: dict[str, float] = field(default_factory=dict)
    _runs: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def forward(self, exchange: Exchange, send: Callable[[], tuple[int, bytes]]) -> None:
        """Send a request to the server.

        :raises ResponseLost: the client must not get the response
        """
        exchange.run = self._run_of(exchange)
        self._notify(exchange)
        exchange.status, exchange.response = send()
        self._learn(exchange)
        exchange.run = exchange.run or self._run_of(exchange)
        if exchange.server == BIGQUERY:
            exchange.response = self._slowed(exchange)
        if exchange.run:
            with self._lock:
                self.seen[exchange.run].append(exchange)
        self._notify(exchange)

    def _notify(self, exchange: Exchange) -> None:
        if watcher := self.watchers.get(exchange.run or ""):
            watcher(exchange)

    def _run_of(self, exchange: Exchange) -> str | None:
        if exchange.task:
            return self._runs.get(exchange.task)
        job = _JOB.search(exchange.path)
        return self._runs.get(job[0]) if job else None

    def _learn(self, exchange: Exchange) -> None:
        """Airflow's response names the run that a task belongs to, Vertex AI's the job that was created."""
        if exchange.status != 200:
            return
        if exchange.server == AIRFLOW and (task := _TASK.search(exchange.path)):
            self._runs[task[1]] = json.loads(exchange.response)["dag_run"]["run_id"]
        elif exchange.run and exchange.method == "POST" and exchange.path.endswith("/batchPredictionJobs"):
            self._runs[json.loads(exchange.response)["name"]] = exchange.run
        elif exchange.server == BIGQUERY and exchange.method == "POST" and _LANDING in exchange.body:
            # The process that sent it is not always found; the script has the run as a parameter.
            run = next((each for each in list(self.slow) if f'"{each}"'.encode() in exchange.body), None)
            job_id = json.loads(exchange.response)["jobReference"]["jobId"]
            if run:
                self._runs[job_id] = run
                self._begun.setdefault(job_id, time.monotonic())

    def _slowed(self, exchange: Exchange) -> bytes:
        """The response, in which a landing script of a slow run that has just begun is not done."""
        job_id = next((each for each in list(self._begun) if each.encode() in exchange.response), "")
        if not job_id or time.monotonic() - self._begun[job_id] > SLOW_SECONDS:
            return exchange.response
        job = json.loads(exchange.response)
        if "status" in job:
            job["status"] = {"state": "RUNNING"}
        return json.dumps(job).encode()


class Proxy:
    """A proxy in front of one server.

    :param upstream: base URL of the server
    """

    def __init__(self, wire: Wire, server: str, upstream: str) -> None:
        self.wire, self.server = wire, server
        _, self.upstream, self.base, *_ = urlsplit(upstream)
        self._listener = _Listener(self)
        self._root = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self.url = self._root + self.base
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def forward(
        self, exchange: Exchange, headers: Mapping[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send a request to the server; return status, headers and body."""
        connection = http.client.HTTPConnection(self.upstream, timeout=120)
        with contextlib.closing(connection):
            path = self.base + exchange.path
            connection.request(exchange.method, path, exchange.body or None, dict(headers))
            response = connection.getresponse()
            # A resumable upload continues at this URL, and must pass through the proxy as well.
            headers_out = [
                (name, value.replace(f"http://{self.upstream}", self._root) if name == "Location" else value)
                for name, value in response.getheaders()
            ]
            return response.status, headers_out, response.read()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would resolve the host name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients are killed in the middle of requests on purpose.
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self._client: Client | None = None

    def do_GET(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        task = _subject(self.headers) if proxy.server == AIRFLOW else self._find().task
        exchange = Exchange(
            proxy.server, self.command, self.path.removeprefix(proxy.base), body, self._find, task
        )
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        kept: list[tuple[str, str]] = []

        def send() -> tuple[int, bytes]:
            status, response_headers, content = proxy.forward(exchange, headers)
            kept.extend((name, value) for name, value in response_headers if name.lower() not in _HOP)
            return status, content

        try:
            proxy.wire.forward(exchange, send)
        except (ResponseLost, OSError, http.client.HTTPException):
            self._reset()
            return
        length = str(len(exchange.response)) if self.command != "HEAD" else "0"
        head = "".join(f"{name}: {value}\r\n" for name, value in [*kept, ("Content-Length", length)])
        self.wfile.write(f"HTTP/1.1 {exchange.status} -\r\n{head}\r\n".encode("latin-1") + exchange.response)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _find(self) -> Client:
        # Once per connection, and only if needed: it inspects every Airflow process.
        self._client = self._client or client_of(self.client_address[1])
        return self._client

    def _reset(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


def _subject(headers: Mapping[str, str]) -> str | None:
    """The task instance that an Airflow token was issued for."""
    parts = (headers.get("Authorization") or "").removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    claims = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    return str(json.loads(claims)["sub"])
