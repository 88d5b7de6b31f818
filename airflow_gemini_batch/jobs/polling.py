"""Polling a job: how long to wait until the next poll, and when to stop. Pure; time is an argument."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import CompletionStats, JobState
from airflow_gemini_batch.exceptions import (
    ApiError,
    CredentialsUnavailableError,
    GeminiBatchError,
    InvalidParameterError,
    JobNotFoundError,
)
from airflow_gemini_batch.formats import counted, duration
from airflow_gemini_batch.service import MAX_QUEUED, MAX_RUNNING

if TYPE_CHECKING:
    from airflow_gemini_batch.batch_job import BatchJob

DEFAULT_POLL_INTERVAL = 60.0
DEFAULT_TIMEOUT = MAX_QUEUED + MAX_RUNNING

_FIRST_WAIT = 2.0
# Each wait is so much longer than the one before: 2, 3, 4.5 … seconds.
_GROWTH = 1.5
_JITTER = 0.1
_ERROR_WAIT = 5.0
# A permission that has just been granted, or a proxy's odd response, takes about a minute to settle.
_LASTING_WAIT = 30.0
LASTING_TRIES = 3
# A connection that is not defined for this process, and an outage of what stores it, look the same.
_CREDENTIALS_PATIENCE = timedelta(hours=1)


def check_poll_interval(value: object) -> None:
    """Check the longest time between two polls.

    :raises InvalidParameterError: it is no number of seconds greater than 0
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not value > 0:  # type: ignore[operator]
        raise InvalidParameterError("poll_interval", value, "give a number of seconds greater than 0")


class WaitOutcome(StrEnum):
    """How waiting ended; the value is sent in the trigger's event."""

    ENDED = "ended"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class PollStep:
    """What to do next: sleep ``wait`` seconds and poll again, or stop with ``outcome``.

    :param message: a line to log, or an empty string
    :param retry_helps: after an error: whether waiting once more may help. A job that does not exist, or may
        not be read, stays so
    """

    wait: float = 0.0
    outcome: WaitOutcome | None = None
    message: str = ""
    is_warning: bool = False
    retry_helps: bool = True


@dataclass(frozen=True)
class PollState:
    """What is known between two polls of a job.

    :param poll_interval: the longest wait between two polls, in seconds
    :param deadline: an absolute time, so that it survives a restart of the triggerer
    :param seed: makes the jitter differ between jobs, but repeatable for each
    :param polls: successful polls so far
    :param errors: failed polls since the last successful one
    :param lasting_errors: those of them that a repetition is not expected to mend
    :param since: time of the first successful poll
    """

    poll_interval: float
    deadline: datetime | None
    seed: str = ""
    polls: int = 0
    errors: int = 0
    lasting_errors: int = 0
    errors_since: datetime | None = None
    state: JobState | None = None
    since: datetime | None = None

    def after_read(self, job: BatchJob, now: datetime) -> tuple[PollState, PollStep]:
        """Process a successful poll."""
        polled, message = self._reached("Vertex AI", now)
        polled = replace(polled, state=job.state)
        if job.state is not self.state:
            message += _state_line(job, now)
        if job.state.is_terminal:
            return polled, PollStep(outcome=WaitOutcome.ENDED, message=message)
        return polled, polled._wait(now, polled._interval(now), message)

    def after_look(self, now: datetime, *, is_done: bool) -> tuple[PollState, PollStep]:
        """Process a successful poll of jobs of BigQuery."""
        polled, message = self._reached("BigQuery", now)
        if is_done:
            return polled, PollStep(outcome=WaitOutcome.ENDED, message=message)
        return polled, polled._wait(now, polled._interval(now), message)

    def _reached(self, service: str, now: datetime) -> tuple[PollState, str]:
        message = ""
        if self.errors and self.errors_since:
            outage = duration(now - self.errors_since, units=3)
            message = (
                f"{service} is reachable again after {counted(self.errors, 'failed poll')} in {outage}. "
            )
        reached = replace(
            self,
            polls=self.polls + 1,
            errors=0,
            lasting_errors=0,
            errors_since=None,
            since=self.since or now,
        )
        return reached, message

    def after_error(self, error: Exception, now: datetime) -> tuple[PollState, PollStep]:
        """Process a failed poll. Consecutive failures are logged once, not each time.

        Transient errors are ridden out until the deadline, unless there are no credentials for an hour. Any
        others, foreseen or not, end the wait when they have happened three times since the last successful
        poll.
        """
        is_lasting = not (isinstance(error, GeminiBatchError) and error.is_transient)
        polled = replace(
            self,
            errors=self.errors + 1,
            lasting_errors=self.lasting_errors + is_lasting,
            errors_since=self.errors_since or now,
        )
        reason = str(error) if isinstance(error, GeminiBatchError) else f"{type(error).__name__}: {error}"
        if polled.lasting_errors >= LASTING_TRIES or polled._is_out_of_patience(error, now):
            is_certain = isinstance(error, ApiError)
            return polled, PollStep(
                outcome=WaitOutcome.ERROR,
                message=f"{reason} {_what_is_known(error)}",
                is_warning=True,
                retry_helps=not is_certain,
            )
        if is_lasting:
            wait = _back_off(_LASTING_WAIT, polled.lasting_errors)
            is_news, consequence = polled.lasting_errors == 1, f"ends when this happens {LASTING_TRIES} times"
        else:
            wait = _back_off(_ERROR_WAIT, polled.errors)
            is_news, consequence = polled.errors == 1, "continues until the deadline"
        message = f"{reason} Polling {consequence}." if is_news else ""
        return polled, replace(polled._wait(now, min(wait, self.poll_interval), message), is_warning=True)

    def _is_out_of_patience(self, error: Exception, now: datetime) -> bool:
        has_been_long = now - (self.errors_since or now) >= _CREDENTIALS_PATIENCE
        return has_been_long and isinstance(error, CredentialsUnavailableError)

    def _interval(self, now: datetime) -> float:
        # Short at first, because a job with invalid input fails at once; then up to the user's interval. It
        # grows with time, not with polls, since those for other jobs may show this one too.
        passed = (now - (self.since or now)).total_seconds()
        return min(_FIRST_WAIT + (_GROWTH - 1) * passed, self.poll_interval)

    def _wait(self, now: datetime, seconds: float, message: str) -> PollStep:
        if self.deadline and now >= self.deadline:
            return PollStep(outcome=WaitOutcome.TIMEOUT, message=message)
        spread = random.Random(f"{self.seed}{self.polls}{self.errors}").uniform(-_JITTER, _JITTER)  # noqa: S311
        wait = seconds * (1 + spread)
        if self.deadline:
            wait = min(wait, (self.deadline - now).total_seconds())
        return PollStep(wait=max(wait, 0.0), message=message)


def _back_off(first: float, errors: int) -> float:
    return first * float(2 ** min(errors - 1, 10))


def _what_is_known(error: Exception) -> str:
    """Say whether a job that cannot be read may be running."""
    if isinstance(error, JobNotFoundError):
        return (
            "If it was deleted, it is not running: only a job that has ended can be deleted. The rows that "
            "it had completed are charged, and their output is kept."
        )
    return "The job may still be running and cost money; clear this task to wait for it again."


def _state_line(job: BatchJob, now: datetime) -> str:
    since = f" after {duration(now - job.create_time, units=3)}" if job.create_time else ""
    counts = f": {job.stats}" if job.stats != CompletionStats() else ""
    return f"Batch job {job.name.job_id} is {job.state.name}{since}{counts}"


def utc_now() -> datetime:
    """The current time, with time zone."""
    return datetime.now(UTC)
