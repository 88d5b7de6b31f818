"""BigQuery jobs that run once, however often they are asked for.

The id of a job is derived from what it does. One of that id that runs or has run is adopted; the id of one
that failed cannot be used again, so the next attempt has the next number.
"""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_gemini_batch.exceptions import LandingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.bigquery import Client

MAX_ATTEMPTS = 100
# BigQuery's reasons for a failure that another attempt may not meet.
_TRANSIENT = frozenset(
    {"backendError", "internalError", "jobBackendError", "jobInternalError", "rateLimitExceeded"}
    | {"jobRateLimitExceeded", "tableUnavailable"}
)
# Two transactions changed the same table; this one was cancelled and may be run again.
_CONFLICT = re.compile(r"concurrent update|transaction conflict", re.IGNORECASE)
_RETRIES = 5
_QUOTED = re.compile(r'"[^"]{40,}"?')


Job = TypeVar("Job", bound=Any)
"""A ``LoadJob`` or a ``QueryJob``."""


@dataclass(frozen=True)
class Step(Generic[Job]):
    """One BigQuery job.

    :param stem: its id without the number of the attempt
    :param start: starts the job under the id given
    :param is_usable: whether what a finished job of an earlier time has done is still there
    :param loss: what a failure means
    """

    stem: str
    start: Callable[[str], Job]
    is_usable: Callable[[Job], bool]
    loss: str = "nothing was landed"


def run(bigquery: Client, location: str | None, steps: Sequence[Step[Job]]) -> list[Job]:
    """Run the jobs side by side and wait for all.

    :raises LandingError: when one of them fails
    """
    running = [_begin(bigquery, location, step, 1) for step in steps]
    return [_finish(bigquery, location, step, *begun) for step, begun in zip(steps, running, strict=True)]


def find(bigquery: Client, location: str | None, step: Step[Job]) -> Job | None:
    """Find the job that an earlier time has run, if what it has done is still there."""
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
    """Return the job, the number of its attempt, and whether it is ours: started here and now."""
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
    failures = 0
    while True:
        _wait(job)
        error = job.error_result
        if not error and (is_ours or step.is_usable(job)):
            return job
        if error and is_ours:
            failures += 1
            if not _is_transient(error) or failures > _RETRIES:
                raise LandingError(_failure(job.job_id, error, step.loss))
            time.sleep(random.uniform(0.5, 1) * 2**failures)  # noqa: S311
        if attempt >= MAX_ATTEMPTS:
            raise LandingError(
                f"BigQuery jobs {step.stem}-1 to -{attempt} have all failed; see the last one."
            )
        job, attempt, is_ours = _begin(bigquery, location, step, attempt + 1)


def _wait(job: Job) -> None:
    pause = 0.1
    while not job.done():
        time.sleep(pause)
        # The end is noticed a twentieth of the job's own time late, at most.
        pause = min(pause * 1.05, 5.0)


def _is_transient(error: dict[str, str]) -> bool:
    return error.get("reason") in _TRANSIENT or bool(_CONFLICT.search(error.get("message") or ""))


def _failure(job_id: str, error: dict[str, str], loss: str) -> str:
    # BigQuery may quote the data that it stumbled over, and prompts stay out of logs.
    message = _QUOTED.sub('"…"', error.get("message") or "")
    return f"BigQuery job {job_id} failed, {loss}: {error.get('reason')}: {message}"
