"""Which requests an emulator answers: those of programs that were given its URL, never those of a web page.

A page in a browser on this machine can reach every port of 127.0.0.1, also under a host name of its own that
resolves to it (DNS rebinding). Standard library only: the BigQuery emulator, which runs in its own Python
environment, loads this file by its path.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class RefusedError(Exception):
    """A request that is not answered; the message says why."""

    def body(self) -> bytes:
        """Return the body of the response, whose status is 403."""
        return json.dumps(
            {"error": {"code": 403, "message": str(self), "status": "PERMISSION_DENIED"}}
        ).encode()


def check_caller(port: int, headers: Mapping[str, str]) -> None:
    """Check that a program sent a request to this machine.

    :param headers: by lowercase name
    :raises RefusedError: a web page of another site sent it, or it was sent to another host name
    """
    hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
    if headers.get("host") not in hosts:
        raise RefusedError("This server answers at 127.0.0.1 only, not under another host name.")
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") or (origin and origin.removeprefix("http://") not in hosts):
        raise RefusedError("This server does not answer web pages of other sites.")


@dataclass(frozen=True)
class LoopbackUrl:
    """The base URL of an emulator: ``http://127.0.0.1:PORT/SECRET``, with a new secret for each run."""

    port: int
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    def __str__(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def prefix(self) -> str:
        """What every path begins with."""
        return f"/{self.secret}"

    def target(self, target: str, headers: Mapping[str, str]) -> str:
        """Return the target of a request, path and query, without the secret.

        :param headers: by lowercase name
        :raises RefusedError: a web page may have sent it, or it lacks the secret
        """
        check_caller(self.port, headers)
        start, rest = target[: len(self.prefix)], target[len(self.prefix) :]
        is_whole = not rest or rest[0] in "/?"
        if not (is_whole and hmac.compare_digest(start.encode(), self.prefix.encode())):
            raise RefusedError(
                "The URL lacks the secret of this run of the emulator. Use the whole URL that it printed, "
                "or that the environment variables have."
            )
        return rest if rest.startswith("/") else f"/{rest}"


class LoopbackHTTPServer(ThreadingHTTPServer):
    """Serves on 127.0.0.1 at a :class:`LoopbackUrl`, with one thread per connection."""

    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind without a name lookup."""
        # HTTPServer looks up the host name, which takes seconds without a network.
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
        self.url = LoopbackUrl(self.server_port)
