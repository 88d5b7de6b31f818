"""What the operators do that cancel and delete jobs by their names."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.exceptions import JobNotFoundError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.jobs.listing import jobs_filter
from airflow_gemini_batch.jobs.ownership import check_deletable, check_ours, is_old, is_ours
from airflow_gemini_batch.jobs.reading import absent, existing_jobs
from airflow_gemini_batch.tasks.installation import installation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

log = logging.getLogger(__name__)


def cancel_jobs(hook: GeminiBatchHook, names: Sequence[JobName], mine: str | None) -> list[str]:
    """Request the cancellation of jobs; those that have ended or do not exist are left as they are.

    :param mine: this installation; ``None`` to cancel jobs of any
    :return: names of the jobs that are being cancelled now
    :raises OtherInstallationError: a job belongs to another installation; none is cancelled then
    """
    jobs = _existing(hook, names)
    _check_ours(jobs, mine)
    cancelled = []
    for job in jobs:
        if job.state is JobState.CANCELLING:
            log.info("Batch job %s is being cancelled already", job.name)
        elif job.state.is_terminal or not hook.cancel_job(job.name):
            log.info("Batch job %s has ended, so it is not cancelled", job.name)
        else:
            log.info("Requested cancellation of batch job %s. Completed rows are charged.", job.name)
            cancelled.append(str(job.name))
    return cancelled


def delete_jobs(
    hook: GeminiBatchHook, names: Sequence[JobName], mine: str | None, min_age: timedelta
) -> list[str]:
    """Delete jobs; those that do not exist are passed over. Output and results are kept.

    :param mine: this installation; ``None`` to delete jobs of any
    :return: names of the jobs that were deleted
    :raises OtherInstallationError: a job belongs to another installation; none is deleted then
    :raises DeletionRefusedError: a job has not ended, or ended too recently; none is deleted then
    """
    jobs = _existing(hook, names)
    _check_ours(jobs, mine)
    now = datetime.now(UTC)
    for job in jobs:
        check_deletable(job, min_age, now)
    deleted = []
    for job in jobs:
        try:
            hook.delete_job(job.name)
        except JobNotFoundError:
            log.info("Batch job %s does not exist any more", job.name)
        else:
            deleted.append(str(job.name))
    log.info("Deleted %s. Output and results are kept.", counted(len(deleted), "batch job"))
    return deleted


def old_jobs(hook: GeminiBatchHook, project_id: str | None, location: str, min_age: timedelta) -> list[str]:
    """Return the names of the jobs of this installation that ended at least ``min_age`` ago."""
    mine, now = installation(), datetime.now(UTC)
    found = hook.list_jobs(
        hook.resolve_project(project_id), location, jobs_filter(mine, before=now - min_age)
    )
    return [str(job.name) for job in found if is_ours(job, mine) and is_old(job, min_age, now)]


def _existing(hook: GeminiBatchHook, names: Sequence[JobName]) -> tuple[BatchJob, ...]:
    jobs = existing_jobs(hook, names)
    for name in absent(names, jobs):
        log.info("Batch job %s does not exist", name)
    return jobs


def _check_ours(jobs: Sequence[BatchJob], mine: str | None) -> None:
    if mine is not None:
        for job in jobs:
            check_ours(job, mine)
