"""A proxy that counts: every request that a client makes, and every byte that it gets."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Seen:
    """One request, and the size of its answer in bytes."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    status: int
    answer_bytes: int

    @property
    def is_download(self) -> bool:
        """Whether it asked for the content of an object."""
        return "media" in self.query.get("alt", []) or self.path.startswith("/download/")


class Recorder:
    """Stands before a server: ``with Recorder(url) as recorder``, then talk to ``recorder.url``.

    :param forbidden: what paths begin with that get a 403, as where a role is missing
    :param change: returns what the client gets instead of the content of a good answer; takes method, path
        and content
    """

    def __init__(
        self,
        target: str,
        forbidden: str | None = None,
        change: Callable[[str, str, bytes], bytes] = lambda _method, _path, content: content,
    ) -> None:
        self.seen: list[Seen] = []
        self.forbidden = forbidden
        (_, netloc, base, *_), seen, recorder = urlsplit(target), self.seen, self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body go out apart; the body would wait 40 ms for the client to acknowledge the head.
            disable_nagle_algorithm = True

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {
                    k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")
                }
                if recorder.forbidden and self.path.removeprefix(base).startswith(recorder.forbidden):
                    self.send_error(403, "no storage.objects.create")
                    return
                connection = HTTPConnection(netloc)
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                parts = urlsplit(self.path.removeprefix(base))
                is_json = "json" in (self.headers.get("Content-Type") or "") and body
                parsed = json.loads(body) if is_json else None
                query = parse_qs(parts.query)
                seen.append(Seen(self.command, parts.path, query, parsed, answer.status, len(content)))
                if answer.status == 200:
                    content = change(self.command, self.path, content)
                if "json" in (answer.headers.get("Content-Type") or ""):
                    # Links lead through here, too.
                    content = content.replace(netloc.encode(), self.headers["Host"].encode())
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type") or "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}{base}"

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
