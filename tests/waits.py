from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until something is so.

    :raises TimeoutError: after 30 seconds
    """
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def replace_sleep(patch: pytest.MonkeyPatch, replacement: Callable[[float], object]) -> None:
    """Call the replacement where this thread sleeps; the threads of servers sleep as before."""
    thread, sleep = threading.current_thread(), time.sleep

    def instead(seconds: float) -> None:
        if threading.current_thread() is thread:
            replacement(seconds)
        else:
            sleep(seconds)

    patch.setattr(time, "sleep", instead)


def shorten_lookups(patch: pytest.MonkeyPatch) -> None:
    """Look for a job as often as usual, but without waiting a minute for one that may not be listed yet."""
    from airflow_gemini_batch.jobs import quota, submission

    for waits in ("LOOKUP_WAITS", "RETRY_WAITS", "_REJECTED_WAITS"):
        patch.setattr(submission, waits, (0.001,) * len(getattr(submission, waits)))
    patch.setattr(quota, "WAIT", 0.001)
    # A second try looks for a shorter time before it creates a job, so a look-up of the first holds as short.
    patch.setattr(submission, "_FRESH", 0.0)


def shorten_waits(patch: pytest.MonkeyPatch) -> None:
    """Make waits of minutes take milliseconds; the number of look-ups and reads stays the same."""
    from airflow_gemini_batch.hooks import gemini_batch

    shorten_lookups(patch)
    patch.setattr(gemini_batch, "_READ_WAIT", 0.001)


def stay_on_worker(patch: pytest.MonkeyPatch) -> None:
    """Do not defer a landing, however long it takes: tests that call ``execute`` expect its result."""
    from airflow_gemini_batch.tasks import landing_wait

    patch.setattr(landing_wait, "ON_WORKER", 600.0)
