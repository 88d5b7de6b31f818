"""Finding the jobs of a task run on the server."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from airflow_gemini_batch.exceptions import ApiError
from airflow_gemini_batch.jobs.creation import created
from airflow_gemini_batch.jobs.identity import (
    MAPPED_LABEL,
    OUTPUT_LABEL,
    RUN_LABEL,
    Mark,
    output_key,
    shared_key,
    title,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.spec import JobSpec

log = logging.getLogger(__name__)

_BAD_REQUEST = 400
# A search by time or name reads many jobs. An older job of a run that is retried now is not worth that.
_SEARCHED = timedelta(days=30)


class JobService(Protocol):
    """The calls that submission needs; :class:`GeminiBatchHook` implements them."""

    def create_job(self, spec: JobSpec) -> BatchJob:
        """Create a job with a single request."""
        ...

    def get_job(self, name: JobName) -> BatchJob:
        """Read a job."""
        ...

    def list_jobs(self, project: str, location: str, filter_: str) -> list[BatchJob]:
        """List jobs, newest first; reads all pages."""
        ...

    def cancel_job(self, name: JobName) -> bool:
        """Request cancellation of a job; ``False`` if it has ended."""
        ...


@dataclass(frozen=True)
class Lookup:
    """Looks up jobs by the labels that this package puts on them, or else by their display names.

    The filters have only forms that Google documents: label keys with underscores, quoted values, a trailing
    wildcard. The mark in the display name decides, whatever the service returns.
    """

    jobs: JobService
    project: str
    location: str
    run: RunIdentity

    def of_run(self) -> list[BatchJob]:
        """Return the jobs of this run, newest first."""
        return find_jobs(self.jobs, self.project, self.location, self.run.key)

    def by_name(self, spec: JobSpec) -> list[BatchJob]:
        """Return the jobs of this run whose labels were lost, or that an earlier version created.

        Reads all recent jobs whose display names begin like the one of ``spec``.
        """
        since = _recent()
        name = title(spec)
        if not name or any(character in name for character in '"\\*'):
            return self._list(since, self._is_mine)
        return self._list(f'displayName:"{name}*" AND {since}', self._is_mine)

    def of_mapped(self, spec: JobSpec) -> list[BatchJob]:
        """Return the jobs that any map index of this run created for a request, if the task is mapped."""
        shared = shared_key(self.run, spec)
        if not shared:
            return []
        return self._list(
            f'labels.{MAPPED_LABEL}="{shared}"', lambda job: job.labels.get(MAPPED_LABEL) == shared
        )

    def with_output(self, spec: JobSpec) -> list[BatchJob]:
        """Return the jobs of all runs that were given the output table of ``spec``."""
        output = output_key(spec)
        return self._list(
            f'labels.{OUTPUT_LABEL}="{output}"', lambda job: job.labels.get(OUTPUT_LABEL) == output
        )

    def _is_mine(self, job: BatchJob) -> bool:
        mark = Mark.read(job)
        return mark is not None and mark.run in (self.run.key, self.run.legacy_key)

    def _list(self, filter_: str, is_wanted: Callable[[BatchJob], bool]) -> list[BatchJob]:
        return _find(self.jobs, self.project, self.location, filter_, is_wanted)


def find_jobs(jobs: JobService, project: str, location: str, run: str) -> list[BatchJob]:
    """Return the jobs of a run, newest first.

    :param run: see :attr:`RunIdentity.key`
    """

    def is_wanted(job: BatchJob) -> bool:
        mark = Mark.read(job)
        return mark is not None and mark.run == run

    return _find(jobs, project, location, f'labels.{RUN_LABEL}="{run}"', is_wanted)


def find_reusable(jobs: JobService, project: str, location: str, run: str) -> BatchJob | None:
    """Find a job of a run that makes a new one unnecessary, whatever its request.

    It is active, has succeeded, or has ended otherwise with completed rows, which are charged.

    :param run: see :attr:`RunIdentity.key`
    """
    for job in find_jobs(jobs, project, location, run):
        if job.is_active or job.state.is_success or job.is_charged:
            return jobs.get_job(job.name)
    return None


def cancel_run(jobs: JobService, spec: JobSpec, run: RunIdentity) -> list[JobName]:
    """Cancel every active job of this run; return the names of those that had not ended by then."""
    live = [job.name for job in Lookup(jobs, spec.project, spec.location, run).of_run() if job.is_active]
    return [name for name in live if jobs.cancel_job(name)]


def _find(
    jobs: JobService, project: str, location: str, filter_: str, is_wanted: Callable[[BatchJob], bool]
) -> list[BatchJob]:
    try:
        found = jobs.list_jobs(project, location, filter_)
    except ApiError as error:
        if error.code != _BAD_REQUEST:
            raise
        log.warning("Reading all recent jobs, since the service refused the filter %s", filter_)
        found = jobs.list_jobs(project, location, _recent())
    return [job for job in found if is_wanted(job)]


def _recent() -> str:
    return created(">=", datetime.now(UTC) - _SEARCHED)
