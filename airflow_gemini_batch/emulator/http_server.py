"""The emulator's HTTP server."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from airflow_gemini_batch.emulator.loopback import LoopbackHTTPServer, RefusedError
from airflow_gemini_batch.emulator.routes import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_gemini_batch.emulator.faults.calls import Reply

log = logging.getLogger(__name__)

_PIECES = 20


class LoopbackServer(LoopbackHTTPServer):
    """Serves the emulator's API.

    :param handle: turns a call into its reply; called from many threads at once
    """

    def __init__(self, port: int, handle: Callable[[Call], Reply]) -> None:
        self.handle = handle
        self._connections: set[socket.socket] = set()
        self._reset: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Register a new connection."""
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.discard(request)
            was_reset = request in self._reset
            self._reset.discard(request)
        if was_reset:
            # An orderly shutdown would send FIN before the reset.
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def reset(self, request: Any) -> None:
        """Mark a connection to be closed with a TCP reset when its thread is done."""
        request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with self._lock:
            self._reset.add(request)

    def close_connections(self) -> None:
        """Close the connections that clients keep open, which ends their threads."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error of a connection; clients may disconnect at any time."""
        log.debug("A connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Turns HTTP requests into calls, and replies into HTTP responses."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LoopbackServer

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            url = urlsplit(self.server.url.target(self.path, headers))
        except RefusedError as error:
            # The body is not read, so nothing more can be read from this connection.
            self.close_connection = True
            self._send(403, error.body())
            return
        call = Call(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers=headers,
            content=self.rfile.read(int(headers.get("content-length") or 0)),
            query_text=url.query,
        )
        reply = self.server.handle(call)
        if reply.resets:
            self.close_connection = True
            self.server.reset(self.request)
            return
        is_page = isinstance(reply.answer, str)
        content = (reply.answer if is_page else json.dumps(reply.answer, ensure_ascii=False)).encode()
        self._send(reply.status, content, "text/html" if is_page else "application/json", reply.trickle)

    def _send(
        self, status: int, content: bytes, kind: str = "application/json", trickle: float = 0.0
    ) -> None:
        head = (
            f"HTTP/1.1 {status} {self.responses.get(status, ('',))[0]}\r\n"
            f"Content-Type: {kind}; charset=UTF-8\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        # One write, so one packet: headers sent separately would wait for the client's acknowledgement.
        self._write(head.encode("ascii") + content, trickle)

    def _write(self, content: bytes, seconds: float) -> None:
        pieces = _PIECES if seconds else 1
        size = -(-len(content) // pieces)
        for start in range(0, len(content), size):
            self.wfile.write(content[start : start + size])
            if seconds:
                time.sleep(seconds / pieces)

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        log.debug(format, *args)
