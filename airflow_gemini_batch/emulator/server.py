"""The stand-in as a server in this process.

::

    with Emulator(pace=Pace(reads=2)) as emulator:
        os.environ["GOOGLE_VERTEX_BASE_URL"] = emulator.url
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from airflow_gemini_batch.emulator.checks import KNOWN_MODELS
from airflow_gemini_batch.emulator.errors import CallError
from airflow_gemini_batch.emulator.pace import IMMEDIATE
from airflow_gemini_batch.emulator.routes import Call, Routes, Settings
from airflow_gemini_batch.emulator.rows import Habits
from airflow_gemini_batch.emulator.runner import Runner
from airflow_gemini_batch.emulator.state import JobStore

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from airflow_gemini_batch.emulator.pace import Pace

log = logging.getLogger(__name__)

_KEPT_REQUESTS = 100_000


@dataclass(frozen=True)
class RecordedRequest:
    """A request that the emulator has answered.

    :param body: the parsed JSON; None when there was none, and for ``/token``, whose form is a secret
    :param status: HTTP status of the answer
    :param answer: the JSON body of the answer
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    status: int
    answer: Any


class Emulator:
    """The Vertex batch API on 127.0.0.1, in threads of this process.

    It reads input and writes output where ``STORAGE_EMULATOR_HOST`` and ``BIGQUERY_EMULATOR_HOST`` point when
    a job runs, and nowhere else: without them, jobs fail.

    :param port: 0 for a free one
    :param pace: of jobs that do not choose their own with the label ``emulator-pace``
    :param models: ids of the publisher models that exist; others are a 404
    :param seed: another seed gives other answers and another order of the output
    :param habits: what the service does to rows
    :param projects: the only projects that may be used, others are a 403; None means any
    :param creates_per_minute: more creates in a project and location are a 429; None means no limit
    """

    def __init__(
        self,
        *,
        port: int = 0,
        pace: Pace = IMMEDIATE,
        models: Collection[str] = KNOWN_MODELS,
        seed: int = 0,
        habits: Habits = Habits(),  # noqa: B008
        projects: Collection[str] | None = None,
        creates_per_minute: int | None = None,
    ) -> None:
        self._port = port
        self._jobs = JobStore()
        self._recorded: deque[RecordedRequest] = deque(maxlen=_KEPT_REQUESTS)
        self._runner = Runner(habits, seed)
        settings = Settings(pace, frozenset(models), projects, creates_per_minute)
        self._routes = Routes(settings, self._jobs, self._runner.start)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``; the value of ``GOOGLE_VERTEX_BASE_URL``."""
        if not self._server:
            raise RuntimeError("The emulator is not running: call start(), or use it in a with statement.")
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def jobs(self) -> tuple[dict[str, Any], ...]:
        """The jobs as REST shows them, oldest first. Looking here does not count as a read."""
        return tuple(job.look() for job in reversed(self._jobs.newest_first()))

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The requests that were answered, oldest first."""
        return tuple(self._recorded)

    def clear(self) -> None:
        """Forget all jobs and requests, and end the jobs that run."""
        self._jobs.clear()
        self._runner.join()
        self._recorded.clear()

    def start(self) -> Emulator:
        """Start to serve.

        :raises OSError: when the port is taken
        """
        if not self._server:
            self._server = _Server(("127.0.0.1", self._port), self)
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(0.02,), name="gemini-batch-emulator", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop to serve and end all jobs; more than once does no harm."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.close_connections()
            server.server_close()
        if self._thread:
            self._thread.join()
            self._thread = None
        self._jobs.clear()
        self._runner.join()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def handle(self, call: Call) -> tuple[int, dict[str, Any]]:
        """Answer a call and record it: HTTP status and JSON body."""
        try:
            status, answer = 200, self._routes.answer(call)
        except CallError as error:
            status, answer = error.code, error.body()
        except Exception:
            log.exception("The emulator could not answer %s %s", call.method, call.path)
            internal = CallError(500, "INTERNAL", "Internal error encountered.")
            status, answer = internal.code, internal.body()
        body = None if call.path == "/token" else _json_or_none(call.content)
        self._recorded.append(RecordedRequest(call.method, call.path, call.query, body, status, answer))
        return status, answer


def _json_or_none(content: bytes) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(content)
    return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], emulator: Emulator) -> None:
        self.emulator = emulator
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the name of the host, which takes seconds without a network.
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End the connections that clients keep open, and with them their threads."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away in the middle is no concern of ours.
        log.debug("A connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        url = urlsplit(self.path)
        call = Call(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            content=self.rfile.read(length),
        )
        status, answer = self.server.emulator.handle(call)
        content = json.dumps(answer, ensure_ascii=False).encode()
        head = (
            f"HTTP/1.1 {status} {self.responses.get(status, ('',))[0]}\r\n"
            "Content-Type: application/json; charset=UTF-8\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        # One write, so one packet: a header of its own would wait for the client's acknowledgement.
        self.wfile.write(head.encode("ascii") + content)

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        log.debug(format, *args)
