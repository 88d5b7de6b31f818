"""Idempotent BigQuery jobs: each runs under an ID derived from its work, so a retry does not repeat it.

A job that is running or has succeeded under that ID is reused. BigQuery never accepts an ID twice, not even
that of a failed job, so every attempt appends its number: ``STEM-1``, ``STEM-2``, …
"""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_gemini_batch.exceptions import LandingError
from airflow_gemini_batch.gcp.bigquery_message import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.cloud.bigquery import Client

MAX_ATTEMPTS = 100
# BigQuery's reasons for failures that another attempt may not hit.
_TRANSIENT = frozenset(
    {"backendError", "internalError", "jobBackendError", "jobInternalError", "rateLimitExceeded"}
    | {"jobRateLimitExceeded", "tableUnavailable"}
)
# Two transactions changed the same table; BigQuery cancelled this one, and it can run again.
_CONFLICT = re.compile(r"concurrent update|transaction conflict", re.IGNORECASE)
_RETRIES = 5
# Landings that take turns conflict on purpose, and many may land in one table at the same time.
_CONFLICT_RETRIES = 30
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 3.0, 48.0
# The longest waits; they are random and half as long on average.
_POLL_SECONDS, _MAX_POLL_SECONDS = 0.2, 10.0


Job = TypeVar("Job", bound=Any)
"""A ``LoadJob`` or a ``QueryJob``."""


@dataclass(frozen=True)
class Step(Generic[Job]):
    """One BigQuery job.

    :param stem: job ID without the attempt number
    :param start: starts the job under a given ID
    :param is_usable: whether the result of a job that succeeded earlier still exists unchanged
    :param is_same: whether a job that the caller has started before it waited elsewhere did this work, and
        what became of its result since is nothing to undo
    :param loss: consequence of a failure, for the error message
    """

    stem: str
    start: Callable[[str], Job]
    is_usable: Callable[[Job], bool]
    is_same: Callable[[Job], bool] = lambda _: False
    loss: str = "nothing was landed"


def digest(*parts: object) -> str:
    """Hash of what decides the work of a job, 24 hex digits, for its ID and the names of its tables."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


class StillRunningError(Exception):
    """Jobs run for longer than :class:`Patience` allows. Later, the same call finds them by their IDs.

    It is no error of this package's tree: nothing has failed, and nothing but a task that waits elsewhere may
    catch it.

    :param jobs: those that are not done, or may not be
    """

    def __init__(self, jobs: Sequence[Any]) -> None:
        self.jobs = tuple(jobs)
        super().__init__(", ".join(str(job.job_id) for job in jobs))


@dataclass
class Patience:
    """How long :func:`run` waits for jobs in this process, and which of them are the caller's own.

    :param seconds: that it waits, all calls together; ``None``: as long as the jobs run
    :param started: IDs of the jobs that the caller has started, here or in an earlier process. The failure of
        one of them is the caller's; that of any other job is not, and the next attempt takes its place
    """

    seconds: float | None = None
    started: set[str] = field(default_factory=set)
    _waited: float = 0.0

    @property
    def left(self) -> float | None:
        """The seconds that are left; ``None`` if there is no limit."""
        return None if self.seconds is None else max(self.seconds - self._waited, 0.0)

    @contextmanager
    def applies(self) -> Iterator[None]:
        """Let it apply to all calls of :func:`run` within, which then may raise :class:`StillRunningError`.

        What runs within must be safe to begin again from the start.
        """
        token = _patience.set(self)
        try:
            yield
        finally:
            _patience.reset(token)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the time within."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - began


_patience: ContextVar[Patience | None] = ContextVar("patience", default=None)


@dataclass(frozen=True)
class _Begun(Generic[Job]):
    """A job under the ID of an attempt.

    :param is_new: this call has started it
    :param is_ours: this call has, or the caller in an earlier process, see :class:`Patience`
    """

    job: Job
    attempt: int
    is_new: bool
    is_ours: bool


def run(bigquery: Client, location: str | None, steps: Sequence[Step[Job]]) -> list[Job]:
    """Run the jobs in parallel and wait for all of them.

    :raises LandingError: one of them failed
    :raises StillRunningError: they run for longer than the :class:`Patience` that applies; never without one
    """
    patience = _patience.get() or Patience()
    begun = [_begin(bigquery, location, step, 1, patience) for step in steps]
    done: list[Job] = []
    for step, each in zip(steps, begun, strict=True):
        try:
            done.append(_finish(bigquery, location, step, each, patience))
        except StillRunningError as error:
            others = [other.job for other in begun[len(done) + 1 :]]
            raise StillRunningError([*error.jobs, *others]) from None
    return done


def find(bigquery: Client, location: str | None, step: Step[Job]) -> Job | None:
    """Find a job that succeeded earlier and whose result is still usable."""
    from google.api_core.exceptions import NotFound

    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            job = _get(bigquery, f"{step.stem}-{attempt}", location)
        except NotFound:
            return None
        if job.done() and not job.error_result and step.is_usable(job):
            found: Job = job
            return found
    return None


def _begin(
    bigquery: Client,
    location: str | None,
    step: Step[Job],
    attempt: int,
    patience: Patience,
    pause: float = 0.0,
) -> _Begun[Job]:
    """Find the job of an attempt, or start it.

    :param pause: seconds to wait before it is started
    """
    from google.api_core.exceptions import Conflict, NotFound

    job_id = f"{step.stem}-{attempt}"

    def found() -> _Begun[Job]:
        job = _get(bigquery, job_id, location)
        return _Begun(job, attempt, is_new=False, is_ours=job_id in patience.started)

    try:
        return found()
    except NotFound:
        pass
    if pause:
        time.sleep(pause)
    try:
        job = step.start(job_id)
    except Conflict:
        return found()
    patience.started.add(job_id)
    return _Begun(job, attempt, is_new=True, is_ours=True)


def _get(bigquery: Client, job_id: str, location: str | None) -> Any:
    return bigquery.get_job(job_id, location=location)


def _finish(
    bigquery: Client, location: str | None, step: Step[Job], begun: _Begun[Job], patience: Patience
) -> Job:
    from google.api_core.retry import exponential_sleep_generator

    pauses = exponential_sleep_generator(_RETRY_SECONDS, _MAX_RETRY_SECONDS)
    failures = conflicts = 0
    while True:
        job = begun.job
        _wait(job, patience)
        error, pause = job.error_result, 0.0
        if not error and (begun.is_new or (begun.is_ours and step.is_same(job)) or step.is_usable(job)):
            return job
        if error and begun.is_ours:
            is_conflict = bool(_CONFLICT.search(error.get("message") or ""))
            conflicts, failures = conflicts + is_conflict, failures + (not is_conflict)
            is_final = not is_conflict and error.get("reason") not in _TRANSIENT
            if is_final or failures > _RETRIES or conflicts > _CONFLICT_RETRIES:
                raise LandingError(_failure(job.job_id, error, step.loss))
            pause = next(pauses)
        if begun.attempt >= MAX_ATTEMPTS:
            raise LandingError(
                f"All {begun.attempt} attempts of BigQuery job {step.stem} failed, or their results are "
                f"gone; see the error of job {step.stem}-{begun.attempt}."
            )
        begun = _begin(bigquery, location, step, begun.attempt + 1, patience, pause)


class _NotDoneError(Exception):
    pass


def _wait(job: Job, patience: Patience) -> None:
    """Poll until the job is done. Intervals grow slowly, so that a short job is not held up by long ones.

    :raises StillRunningError: it is not, and there is no patience left
    """
    from google.api_core.exceptions import RetryError
    from google.api_core.retry import Retry, if_exception_type

    def poll() -> None:
        if not job.done():
            raise _NotDoneError

    retry = Retry(
        if_exception_type(_NotDoneError),
        initial=_POLL_SECONDS,
        maximum=_MAX_POLL_SECONDS,
        multiplier=1.05,
        timeout=patience.left,
    )
    with patience.counted():
        try:
            retry(poll)()
        except RetryError as error:
            if not isinstance(error.cause, _NotDoneError):
                raise
            raise StillRunningError([job]) from None


def _failure(job_id: str, error: dict[str, str], loss: str) -> str:
    return f"BigQuery job {job_id} failed, {loss}: {explain(error.get('reason'), error.get('message'))}"
