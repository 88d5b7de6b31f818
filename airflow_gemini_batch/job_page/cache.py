"""The jobs that a process has listed last. However many pages are open, they are listed once an interval."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from airflow_gemini_batch.exceptions import ApiError, GeminiBatchError, ServiceUnreachableError
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from airflow_gemini_batch.batch_job import BatchJob

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """What one look has shown.

    :param problems: one sentence for each place whose jobs could not be listed
    :param is_cut: there are more jobs than are shown
    """

    jobs: tuple[BatchJob, ...] = ()
    costs: Mapping[str, Decimal] | None = None
    problems: tuple[str, ...] = ()
    is_cut: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The last listing.

    :param at: when it was made; ``None`` if the first one is still to come
    :param is_looking: a new one is being made
    """

    at: datetime | None
    listing: Listing
    is_looking: bool


class Look(Protocol):
    """Lists the jobs; may take long."""

    def __call__(self) -> Listing:
        """Return what is there now."""
        ...


class JobCache:
    """Lists jobs in a thread when a page asks and the last list is older than the interval.

    Nobody waits for the service: a page gets the last list at once, and a server whose threads all wait
    would answer nobody.

    :param interval: seconds between two lists
    """

    def __init__(
        self,
        look: Look,
        *,
        interval: float = DEFAULT_POLL_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval = interval
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._at: datetime | None = None
        self._listing = Listing()
        self._due = float("-inf")
        self._is_looking = False

    def snapshot(self) -> Snapshot:
        """Return the last list, and start to make a new one if it is due."""
        with self._lock:
            is_due = not self._is_looking and self._clock() >= self._due
            self._is_looking |= is_due
            found = Snapshot(self._at, self._listing, self._is_looking)
        if is_due:
            threading.Thread(target=self._refresh, name="gemini-batch-page", daemon=True).start()
        return found

    def _refresh(self) -> None:
        try:
            listing = self._look()
        except Exception as error:
            log.exception("The batch jobs for the page cannot be listed")
            listing = Listing(problems=(problem_of(error),))
        with self._lock:
            self._at, self._listing = datetime.now(UTC), listing
            self._due = self._clock() + self.interval
            self._is_looking = False


def problem_of(error: Exception) -> str:
    """Say what is wrong to anybody who may open the page: nothing of credentials or of this machine."""
    if isinstance(error, ApiError):
        return str(error)
    if isinstance(error, ServiceUnreachableError):
        return "Vertex AI does not respond."
    if isinstance(error, GeminiBatchError):
        return "The credentials or the settings are not right. The log of the api-server says more."
    return "An unexpected error. The log of the api-server says more."
