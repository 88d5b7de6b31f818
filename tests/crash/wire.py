"""Between Airflow and everything it talks to: sees each request, and knows which run it belongs to.

One small proxy stands before each server. Nothing in the package knows of it: what is killed or lost is
chosen by what is seen on the wire.
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
_JOB = re.compile(r"projects/[^/]+/locations/[^/]+/batchPredictionJobs/\d+")
# What a proxy must not hand on, and what it writes itself.
_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "host"}
    # Answers are read here, so they must come as they are.
    | {"accept-encoding"}
)


@dataclass
class Exchange:
    """A request, and what the server answered: status 0 while it has not."""

    server: str
    method: str
    path: str
    body: bytes
    find: Callable[[], Client]
    task: str | None
    run: str | None = None
    status: int = 0
    answer: bytes = b""

    @property
    def client(self) -> Client:
        """The process that sent it, while it lives."""
        return self.find()


class AnswerLost(Exception):  # noqa: N818  # the outcome of a blow, not an error
    """The client gets no answer."""


Watcher = "Callable[[Exchange], None]"


@dataclass
class Wire:
    """All that is seen, by run.

    :param watchers: called by run with each of its requests, before and after the server has it; one that
        raises :class:`AnswerLost` keeps the answer from the client
    """

    seen: dict[str, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    watchers: dict[str, Callable[[Exchange], None]] = field(default_factory=dict)
    _runs: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_on(self, exchange: Exchange, send: Callable[[], tuple[int, bytes]]) -> None:
        """Let a request through.

        :raises AnswerLost: the client is to get no answer
        """
        exchange.run = self._run_of(exchange)
        self._tell(exchange)
        exchange.status, exchange.answer = send()
        self._learn(exchange)
        exchange.run = exchange.run or self._run_of(exchange)
        if exchange.run:
            with self._lock:
                self.seen[exchange.run].append(exchange)
        self._tell(exchange)

    def _tell(self, exchange: Exchange) -> None:
        if watcher := self.watchers.get(exchange.run or ""):
            watcher(exchange)

    def _run_of(self, exchange: Exchange) -> str | None:
        if exchange.task:
            return self._runs.get(exchange.task)
        job = _JOB.search(exchange.path)
        return self._runs.get(job[0]) if job else None

    def _learn(self, exchange: Exchange) -> None:
        """The server of Airflow says which run a task belongs to, that of Vertex which job it made."""
        if exchange.status != 200:
            return
        if exchange.server == AIRFLOW and (task := _TASK.search(exchange.path)):
            self._runs[task[1]] = json.loads(exchange.answer)["dag_run"]["run_id"]
        elif exchange.run and exchange.method == "POST" and exchange.path.endswith("/batchPredictionJobs"):
            self._runs[json.loads(exchange.answer)["name"]] = exchange.run


class Proxy:
    """Stands before one server.

    :param upstream: ``http://127.0.0.1:PORT`` of the server
    """

    def __init__(self, wire: Wire, server: str, upstream: str) -> None:
        self.wire, self.server = wire, server
        self.upstream = urlsplit(upstream).netloc
        self._listener = _Listener(self)
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"
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
        """Ask the server."""
        connection = http.client.HTTPConnection(self.upstream, timeout=120)
        with contextlib.closing(connection):
            connection.request(exchange.method, exchange.path, exchange.body or None, dict(headers))
            answer = connection.getresponse()
            # An upload goes on where the server says: that is to be seen, too.
            told = [
                (name, value.replace(f"http://{self.upstream}", self.url) if name == "Location" else value)
                for name, value in answer.getheaders()
            ]
            return answer.status, told, answer.read()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the name of the host.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients are killed in the middle; that is what this is for.
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
        exchange = Exchange(proxy.server, self.command, self.path, body, self._find, task)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        kept: list[tuple[str, str]] = []

        def send() -> tuple[int, bytes]:
            status, answered, content = proxy.forward(exchange, headers)
            kept.extend((name, value) for name, value in answered if name.lower() not in _HOP)
            return status, content

        try:
            proxy.wire.pass_on(exchange, send)
        except (AnswerLost, OSError, http.client.HTTPException):
            self._reset()
            return
        length = str(len(exchange.answer)) if self.command != "HEAD" else "0"
        head = "".join(f"{name}: {value}\r\n" for name, value in [*kept, ("Content-Length", length)])
        self.wfile.write(f"HTTP/1.1 {exchange.status} -\r\n{head}\r\n".encode("latin-1") + exchange.answer)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _find(self) -> Client:
        # Once a connection, and only when asked: it takes a look at every process of Airflow.
        self._client = self._client or client_of(self.client_address[1])
        return self._client

    def _reset(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _subject(headers: Mapping[str, str]) -> str | None:
    """The task that a token of Airflow is for."""
    parts = (headers.get("Authorization") or "").removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    claims = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    return str(json.loads(claims)["sub"])
