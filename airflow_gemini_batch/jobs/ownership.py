"""Whose job it is, and whether it may be cancelled or deleted. Pure; ``now`` is an argument."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import DeletionRefusedError, OtherInstallationError
from airflow_gemini_batch.formats import duration
from airflow_gemini_batch.jobs.identity import INSTALLATION_LABEL, Mark, label_value

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_gemini_batch.batch_job import BatchJob


def is_ours(job: BatchJob, installation: str) -> bool:
    """Whether a label of the job names this installation; false for jobs of others and of early versions."""
    return bool(installation) and job.labels.get(INSTALLATION_LABEL) == label_value(installation)


def check_ours(job: BatchJob, installation: str) -> None:
    """Check that a job belongs to this installation.

    :raises OtherInstallationError: it does not, or does not say whose it is
    """
    if is_ours(job, installation):
        return
    if INSTALLATION_LABEL in job.labels:
        reason = "belongs to another Airflow installation"
    elif Mark.read(job):
        reason = "does not say which Airflow installation created it"
    else:
        reason = "was not created by this package"
    raise OtherInstallationError(job, reason)


def check_deletable(job: BatchJob, min_age: timedelta, now: datetime) -> None:
    """Check that nothing needs a job any more.

    A task that is retried or cleared looks for its job on the server. If the job is gone, it creates a new
    one, and all rows are paid again. So a job is kept for as long as its task may be cleared.

    :raises DeletionRefusedError: the job has not ended, or ended less than ``min_age`` ago
    """
    if not job.state.is_terminal:
        raise DeletionRefusedError(
            job,
            "it has not ended. Cancel it with GeminiBatchCancelJobOperator and wait for its end with "
            "GeminiBatchJobSensor, or wait until it ends.",
        )
    ended = ended_at(job)
    if ended is None or now - ended < min_age:
        when = f"it ended {duration(now - ended)} ago" if ended else "it is not known when it ended"
        raise DeletionRefusedError(
            job,
            f"{when}. Without it, clearing the task that submitted it would create a new job and pay for all "
            f"rows again. Jobs are kept for {min_age / timedelta(days=1):g} days (min_age_days); set a "
            "smaller number to delete it now.",
        )


def is_old(job: BatchJob, min_age: timedelta, now: datetime) -> bool:
    """Whether a job ended at least ``min_age`` ago."""
    ended = ended_at(job)
    return job.state.is_terminal and ended is not None and now - ended >= min_age


def ended_at(job: BatchJob) -> datetime | None:
    """When a job ended. If the service does not say, as for EXPIRED jobs, when it was last changed."""
    return job.end_time or job.update_time or job.latest_time
