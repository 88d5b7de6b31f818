"""Wait for a job: how long until the next look, when it is done, when to give up. Time is an argument."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobState, duration

if TYPE_CHECKING:
    from airflow_gemini_batch.exceptions import GeminiBatchError

DEFAULT_POLL_INTERVAL = 60.0
# A job queues up to 72 h and runs up to 24 h.
DEFAULT_TIMEOUT = timedelta(hours=96)

_FIRST_WAIT = 2.0
_GROWTH = 1.5
_JITTER = 0.1
_ERROR_WAIT = 5.0
_PERMANENT_TRIES = 3


class Outcome(StrEnum):
    """How waiting ended; the value travels in the trigger's event."""

    ENDED = "ended"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class Step:
    """What to do next: sleep ``wait`` seconds and look again, or stop with ``outcome``.

    :param message: a line worth logging, or nothing
    """

    wait: float = 0.0
    outcome: Outcome | None = None
    message: str = ""
    is_warning: bool = False


@dataclass(frozen=True)
class Watch:
    """What is known between two looks at a job.

    :param poll_interval: the longest wait between two looks, in seconds
    :param deadline: an absolute time, so that it survives a restart of the triggerer
    :param seed: makes the jitter of one watch differ from the next one's, and repeatable
    """

    poll_interval: float
    deadline: datetime | None
    seed: str = ""
    looks: int = 0
    errors: int = 0
    errors_since: datetime | None = None
    state: JobState | None = None

    def saw(self, job: BatchJob, now: datetime) -> tuple[Watch, Step]:
        """Take in a job that was read."""
        message = ""
        if self.errors and self.errors_since:
            gone = duration(now - self.errors_since, units=3)
            message = f"Vertex AI answers again after {self.errors} failed looks in {gone}. "
        if job.state is not self.state:
            message += _state_line(job, now)
        watch = replace(self, looks=self.looks + 1, errors=0, errors_since=None, state=job.state)
        if job.state.is_terminal:
            return watch, Step(outcome=Outcome.ENDED, message=message)
        return watch, watch._wait(now, watch._interval(), message)

    def failed(self, error: GeminiBatchError, now: datetime) -> tuple[Watch, Step]:
        """Take in a look that failed. One line a streak is logged, not one a try."""
        watch = replace(self, errors=self.errors + 1, errors_since=self.errors_since or now)
        if not error.is_transient and watch.errors >= _PERMANENT_TRIES:
            return watch, Step(outcome=Outcome.ERROR, message=str(error), is_warning=True)
        message = f"{error} Looking again until the deadline." if watch.errors == 1 else ""
        back_off = min(_ERROR_WAIT * 2 ** min(watch.errors - 1, 10), self.poll_interval)
        return watch, replace(watch._wait(now, back_off, message), is_warning=True)

    def _interval(self) -> float:
        # Short at first, for a job that fails on its input at once; then as long as the user said.
        return float(min(_FIRST_WAIT * _GROWTH ** min(self.looks - 1, 50), self.poll_interval))

    def _wait(self, now: datetime, seconds: float, message: str) -> Step:
        if self.deadline and now >= self.deadline:
            return Step(outcome=Outcome.TIMEOUT, message=message)
        spread = random.Random(f"{self.seed}{self.looks}{self.errors}").uniform(-_JITTER, _JITTER)  # noqa: S311
        wait = seconds * (1 + spread)
        if self.deadline:
            wait = min(wait, (self.deadline - now).total_seconds())
        return Step(wait=max(wait, 0.0), message=message)


def _state_line(job: BatchJob, now: datetime) -> str:
    since = f" after {duration(now - job.create_time, units=3)}" if job.create_time else ""
    counts = f": {job.stats}" if job.stats != CompletionStats() else ""
    return f"Batch job {job.name.job_id} is {job.state.name}{since}{counts}"


def utc_now() -> datetime:
    """The present, with its time zone."""
    return datetime.now(UTC)
