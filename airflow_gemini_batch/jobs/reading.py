"""Reading many jobs with few requests: Google allows 600 reads a minute for a project and region."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from airflow_gemini_batch.exceptions import ApiError, JobNotFoundError
from airflow_gemini_batch.jobs.creation import created
from airflow_gemini_batch.service import PAGE_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_gemini_batch.batch_job import BatchJob, JobName, JobPage

log = logging.getLogger(__name__)

# So few are read one by one.
_FEW = 10
_AT_ONCE = 8
# Jobs that are landed together were created about the same time.
_AROUND = timedelta(hours=12)


class JobReader(Protocol):
    """The calls that reading needs; :class:`GeminiBatchHook` implements them."""

    def get_job(self, name: JobName) -> BatchJob:
        """Read a job."""
        ...

    def list_page(self, project: str, location: str, query: Mapping[str, Any]) -> JobPage:
        """List one page of jobs."""
        ...


def read_jobs(jobs: JobReader, names: Sequence[JobName]) -> tuple[BatchJob, ...]:
    """Read jobs, in the order of their names: from a list if there are many, the others one by one.

    :raises ApiError: :class:`JobNotFoundError` if one does not exist
    :raises ServiceUnreachableError: no response
    """
    read = _read_all(jobs, names)
    found = []
    for name in names:
        if isinstance(each := read[name], JobNotFoundError):
            raise each
        found.append(each)
    return tuple(found)


def existing_jobs(jobs: JobReader, names: Sequence[JobName]) -> tuple[BatchJob, ...]:
    """Read those jobs that exist, as :func:`read_jobs` does.

    :raises ApiError: a job could not be read
    :raises ServiceUnreachableError: no response
    """
    found = _read_all(jobs, names)
    return tuple(each for name in names if not isinstance(each := found[name], JobNotFoundError))


def absent(names: Iterable[JobName], jobs: Iterable[BatchJob]) -> list[JobName]:
    """Return the names of the jobs that are not among those that :func:`existing_jobs` has read."""
    # The service may answer with the number of the project where its ID was given.
    found = {job.name.job_id for job in jobs}
    return [name for name in names if name.job_id not in found]


def _read_all(jobs: JobReader, names: Sequence[JobName]) -> dict[JobName, BatchJob | JobNotFoundError]:
    found: dict[JobName, BatchJob | JobNotFoundError] = {}
    for place, group in groupby(sorted(names, key=_place), _place):
        there = list(group)
        if len(there) > _FEW:
            # A list may name the number of the project where a task names its ID.
            listed = {job.name.job_id: job for job in _listed(jobs, place, there)}
            found |= {name: listed[name.job_id] for name in there if name.job_id in listed}
    rest = [name for name in names if name not in found]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found |= zip(rest, pool.map(partial(_read, jobs), rest), strict=True)
    return found


def _read(jobs: JobReader, name: JobName) -> BatchJob | JobNotFoundError:
    try:
        return jobs.get_job(name)
    except JobNotFoundError as error:
        return error


def _place(name: JobName) -> tuple[str, str]:
    return name.project, name.location


def _listed(jobs: JobReader, place: tuple[str, str], names: list[JobName]) -> list[BatchJob]:
    """List the jobs that were created about when the first one was, in fewer requests than one for each."""
    first = _read(jobs, names[0])
    if isinstance(first, JobNotFoundError):
        return []
    found = [first]
    if first.create_time is None:
        return found
    since, until = first.create_time - _AROUND, first.create_time + _AROUND
    query: dict[str, Any] = {
        "filter": f"{created('>=', since)} AND {created('<=', until)}",
        "pageSize": PAGE_ROWS,
    }
    missing = {name.job_id for name in names[1:]}
    try:
        for _ in range(2 + len(names) // 20):
            page = jobs.list_page(*place, query)
            shown = [job for job in page.jobs if job.name.job_id in missing]
            found += shown
            missing -= {job.name.job_id for job in shown}
            if not page.next_token or not missing:
                break
            query["pageToken"] = page.next_token
    except ApiError as error:
        log.info("Reading the jobs one by one, since they cannot be listed: %s", error)
    return found
