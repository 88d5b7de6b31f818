"""Idempotent BigQuery jobs: each runs under an ID derived from its work, so a retry does not repeat it.

A job that is running or has succeeded under that ID is reused. BigQuery never accepts an ID twice, not even
that of a failed job, so every attempt appends its number: ``STEM-1``, ``STEM-2``, …
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_gemini_batch.exceptions import LandingError
from airflow_gemini_batch.gcp.bigquery_message import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    :param loss: consequence of a failure, for the error message
    """

    stem: str
    start: Callable[[str], Job]
    is_usable: Callable[[Job], bool]
    loss: str = "nothing was landed"


def digest(*parts: object) -> str:
    """Hash of what decides the work of a job, 24 hex digits, for its ID and the names of its tables."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


class _StillRunningError(Exception):
    pass


def run(bigquery: Client, location: str | None, steps: Sequence[Step[Job]]) -> list[Job]:
    """Run the jobs in parallel and wait for all of them.

    :raises LandingError: one of them failed
    """
    running = [_begin(bigquery, location, step, 1) for step in steps]
    return [_finish(bigquery, location, step, *begun) for step, begun in zip(steps, running, strict=True)]


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


def _begin(bigquery: Client, location: str | None, step: Step[Job], attempt: int) -> tuple[Job, int, bool]:
    """Return the job, its attempt number, and whether this call started it."""
    from google.api_core.exceptions import Conflict, NotFound

    job_id = f"{step.stem}-{attempt}"
    try:
        return _get(bigquery, job_id, location), attempt, False
    except NotFound:
        pass
    try:
        return step.start(job_id), attempt, True
    except Conflict:
        return _get(bigquery, job_id, location), attempt, False


def _get(bigquery: Client, job_id: str, location: str | None) -> Any:
    return bigquery.get_job(job_id, location=location)


def _finish(
    bigquery: Client,
    location: str | None,
    step: Step[Job],
    job: Job,
    attempt: int,
    is_ours: bool,
) -> Job:
    from google.api_core.retry import exponential_sleep_generator

    pauses = exponential_sleep_generator(_RETRY_SECONDS, _MAX_RETRY_SECONDS)
    failures = conflicts = 0
    while True:
        _wait(job)
        error = job.error_result
        if not error and (is_ours or step.is_usable(job)):
            return job
        if error and is_ours:
            is_conflict = bool(_CONFLICT.search(error.get("message") or ""))
            conflicts, failures = conflicts + is_conflict, failures + (not is_conflict)
            is_final = not is_conflict and error.get("reason") not in _TRANSIENT
            if is_final or failures > _RETRIES or conflicts > _CONFLICT_RETRIES:
                raise LandingError(_failure(job.job_id, error, step.loss))
            time.sleep(next(pauses))
        if attempt >= MAX_ATTEMPTS:
            raise LandingError(
                f"All {attempt} attempts of BigQuery job {step.stem} failed, or their results are gone; see "
                f"the error of job {step.stem}-{attempt}."
            )
        job, attempt, is_ours = _begin(bigquery, location, step, attempt + 1)


def _wait(job: Job) -> None:
    """Poll until the job is done. Intervals grow slowly, so that a short job is not held up by long ones."""
    from google.api_core.retry import Retry, if_exception_type

    def poll() -> None:
        if not job.done():
            raise _StillRunningError

    Retry(
        if_exception_type(_StillRunningError),
        initial=_POLL_SECONDS,
        maximum=_MAX_POLL_SECONDS,
        multiplier=1.05,
        timeout=None,
    )(poll)()


def _failure(job_id: str, error: dict[str, str], loss: str) -> str:
    return f"BigQuery job {job_id} failed, {loss}: {explain(error.get('reason'), error.get('message'))}"
