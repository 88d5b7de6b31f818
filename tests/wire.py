"""The calls of Google's clients in this process, one by one: refuse one, pause before one, die after one.

The clients' transports (``requests`` and ``httpx``) are watched, not the package under test.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import httpx
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PAUSE_SECONDS = 60.0
# The jobs of the emulator use the same clients in threads of this process. The client of Cloud Storage looks
# at the bucket in a thread of its own, for its telemetry, at any time.
_NOT_OURS = re.compile(r"batch-job-|.*\(_fetch_background\)")


@dataclass(frozen=True)
class Call:
    """A request to a server.

    :param url: without escapes
    """

    method: str
    url: str

    @property
    def lists_jobs(self) -> bool:
        """Whether it looks for batch jobs."""
        return self.method == "GET" and "/batchPredictionJobs?" in self.url

    @property
    def creates_job(self) -> bool:
        """Whether it creates a batch job."""
        return self.method == "POST" and self.url.endswith("/batchPredictionJobs")

    @property
    def reads_input(self) -> bool:
        """Whether it looks at objects or tables."""
        return self.method == "GET" and bool(re.search(r"/storage/v1/b/[^/?]+/o\b|/tables/", self.url))


class Watcher(Protocol):
    """Sees each call, on the thread that makes it."""

    def before(self, call: Call) -> tuple[int, bytes] | None:
        """Return HTTP status and content to answer with, or ``None`` to send the call."""
        ...

    def after(self, call: Call) -> None:
        """Called when the server has answered."""
        ...


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Show the calls of all clients to the watcher."""
    patched: list[tuple[Any, Any]] = []

    def patch(client: Any, answered: Callable[[Any, int, bytes], Any]) -> None:
        original = client.send
        patched.append((client, original))

        def send(self: Any, request: Any, **options: Any) -> Any:
            if _NOT_OURS.match(threading.current_thread().name):
                return original(self, request, **options)
            call = Call(request.method, unquote(str(request.url)))
            if made_up := watcher.before(call):
                return answered(request, *made_up)
            answer = original(self, request, **options)
            watcher.after(call)
            return answer

        client.send = send

    patch(requests.Session, _response)
    patch(httpx.Client, _httpx_response)
    for client in _other_transports():
        patch(client, _httpx_response)
    try:
        yield
    finally:
        for client, original in patched:
            client.send = original


def _other_transports() -> list[Any]:
    try:
        import httpx2  # google-genai 3
    except ImportError:
        return []
    return [httpx2.Client]


def _response(request: Any, status: int, content: bytes) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = content
    response.headers["Content-Type"] = "application/json"
    response.request, response.url = request, request.url
    return response


def _httpx_response(request: Any, status: int, content: bytes) -> Any:
    # google-genai 3 uses a copy of httpx under another name.
    transport: Any = httpx if isinstance(request, httpx.Request) else sys.modules["httpx2"]
    return transport.Response(status, content=content, request=request)


def _error(status: int, reason: str) -> bytes:
    errors = [{"reason": reason, "message": reason}]
    return json.dumps({"error": {"code": status, "message": reason, "errors": errors}}).encode()


class Killed(BaseException):
    """The process is gone: nothing of it may catch this."""


@dataclass
class KillAfter:
    """Kills the process of a task after its nth call: no later call is sent.

    :param nth: from 1; ``None`` only counts
    :param calls: number of calls so far
    :param last: the call after which the process was killed
    """

    nth: int | None
    calls: int = 0
    last: Call | None = None

    def before(self, call: Call) -> None:
        """Raise ``Killed`` if the process is dead."""
        if self.last:
            raise Killed

    def after(self, call: Call) -> None:
        """Count the call; raise ``Killed`` if it is the last one."""
        self.calls += 1
        if self.calls == self.nth:
            self.last = call
            raise Killed


@dataclass
class Refuse:
    """Refuses the first call that matches, once.

    :param content: of the answer; default: an error with the reason
    """

    matches: Callable[[Call], bool]
    status: int = 403
    reason: str = "forbidden"
    content: bytes | None = None
    refused: int = 0

    def before(self, call: Call) -> tuple[int, bytes] | None:
        """Return the answer to the first call that matches."""
        if self.refused or not self.matches(call):
            return None
        self.refused += 1
        return self.status, _error(self.status, self.reason) if self.content is None else self.content

    def after(self, call: Call) -> None:
        """Do nothing."""


@dataclass
class PauseBefore:
    """Pauses one thread before its nth call that matches, until :meth:`go_on`.

    :param thread: only its calls count
    """

    matches: Callable[[Call], bool]
    nth: int
    thread: threading.Thread | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    _goes_on: threading.Event = field(default_factory=threading.Event)
    _seen: int = 0

    def before(self, call: Call) -> None:
        """Pause if this is the call."""
        if threading.current_thread() is not self.thread or not self.matches(call):
            return
        self._seen += 1
        if self._seen == self.nth:
            self.reached.set()
            if not self._goes_on.wait(_PAUSE_SECONDS):
                raise TimeoutError("nobody let the paused task go on")

    def after(self, call: Call) -> None:
        """Do nothing."""

    def go_on(self) -> None:
        """Let the paused call continue."""
        self._goes_on.set()
