"""Wait for SIGINT or SIGTERM."""

from __future__ import annotations

import signal
from contextlib import suppress
from queue import Empty, SimpleQueue


class StopSignal:
    """SIGINT and SIGTERM, which end a wait instead of the process; create it in the main thread.

    The main thread runs the handler between any two of its steps. While it waits for a ``threading.Event``,
    it may hold the lock that setting the event needs, and would hang; ``SimpleQueue.put`` is for handlers.
    """

    def __init__(self) -> None:
        self._received: SimpleQueue[int] = SimpleQueue()
        self._is_received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        self._is_received = True
        self._received.put(number)

    def wait(self, seconds: float | None = None) -> bool:
        """Return whether one was received, at the latest after so many seconds; ``None``: wait for one."""
        if not self._is_received:
            with suppress(Empty):
                self._received.get(timeout=seconds)
        return self._is_received
