"""Describes a job that has ended: as an error message, and as the summary in XCom."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import IMPORT_FAILED, JobState
from airflow_gemini_batch.gcp.rpc_codes import PASSING_CODES
from airflow_gemini_batch.service import MAX_QUEUED, MAX_RUNNING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_gemini_batch.batch_job import BatchJob

# Advice by google.rpc.Code, for codes of jobs that were seen to fail.
_ADVICE = {
    1: "It was cancelled in the console, by the service, or by a task that was stopped, timed out or "
    "replaced its input. If it was a task, the log of that task says so and names this job.",
    IMPORT_FAILED: "The service rejected the whole input. It infers one type per JSON path for the whole "
    "file, so a single inconsistent line fails the job; the message names the path.",
    7: "Grant the service agent named in the message the missing role: roles/storage.objectAdmin on the "
    "bucket, or roles/bigquery.dataEditor and roles/bigquery.jobUser for BigQuery.",
    9: "Check that the bucket or dataset exists and is located in the job's region.",
    13: "An internal error of the service. If it recurs, contact Google Cloud support.",
}
_NO_CODE = 0
_HOUR = timedelta(hours=1)


def may_run_again(job: BatchJob) -> bool:
    """Whether a retry may create the job again: it ended for a passing reason, with nothing charged."""
    is_over = job.state.is_success or job.state is JobState.CANCELLED
    if not job.state.is_terminal or job.is_charged or is_over:
        return False
    return job.error is None or job.error.code in (_NO_CODE, *PASSING_CODES)


def summarise(job: BatchJob) -> dict[str, Any]:
    """Return what downstream tasks need as a small dict of JSON types."""
    return {
        "job_name": str(job.name),
        "state": job.state.value,
        "display_name": job.display_name,
        "model": job.model,
        "input_uris": list(job.input_uris[:10]),
        "output_location": job.output_location,
        "completion_stats": {
            "successful": job.stats.successful,
            "failed": job.stats.failed,
            "incomplete": job.stats.incomplete,
        },
        "error": {"code": job.error.code, "message": job.error.message} if job.error else None,
        "create_time": _iso(job.create_time),
        "start_time": _iso(job.start_time),
        "end_time": _iso(job.end_time),
    }


def explain_end(job: BatchJob, *, is_used: bool = False, is_round: bool = False, task_id: str = "") -> str:
    """Explain a job that did not succeed: the cause, what is charged, where it is, and what to do.

    :param is_used: the completed rows are used, so there is nothing to do
    :param is_round: a task that resubmits failed requests created the job
    :param task_id: the task that waits for the job, if it is known
    """
    lines = [f"Batch job {job.name} ended {job.state.name}."]
    if job.error:
        reported = f"{job.error.message.rstrip('.')} (code {job.error.code})".strip()
        lines.append(f"Vertex AI reported: {reported}.")
        if advice := _ADVICE.get(job.error.code):
            lines.append(advice)
    elif job.state is JobState.EXPIRED:
        lines.append(
            f"A job can queue for up to {MAX_QUEUED // _HOUR} hours and run for up to "
            f"{MAX_RUNNING // _HOUR}; this one may have exceeded a limit."
        )
    lines.append(f"Rows: {job.stats}.")
    if not job.is_charged:
        lines.append(how_to_run_again(job, is_round=is_round))
    elif not job.known_output:
        lines.append("Completed rows are charged, but the service does not say where they are stored.")
        lines.append(how_to_run_again(job, is_round=is_round))
    else:
        lines.append(f"Completed rows are charged and stored at {job.known_output}.")
        # Rounds use completed rows anyway.
        lines += [] if is_used or is_round else [*_how_to_use(job, task_id), how_to_run_again(job)]
    return " ".join(lines)


def _how_to_use(job: BatchJob, task_id: str) -> Iterator[str]:
    task = f"the task {task_id!r}" if task_id else "the task that waits for the job"
    yield (
        f'To use them, set on_incomplete="continue" on {task} in the DAG, then clear it and its downstream '
        "tasks. Do not change the request: another input, model or output is paid in full."
    )
    if job.stats.incomplete != 0:
        yield (
            "To ask for the rows that are missing as well, have a GeminiBatchRetryFailedOperator after the "
            "task that lands."
        )


def how_to_run_again(job: BatchJob, *, is_round: bool = False) -> str:
    """Say how the rows of a job that has ended are run again, and whether they are paid again.

    :param is_round: a task that resubmits failed requests created the job
    """
    if not job.state.is_terminal:
        return ""
    task = "this task" if is_round else "the task that submitted the job"
    if may_run_again(job):
        return f"{_uncharged(job)} When {task} runs again, it creates a new one."
    if not job.is_charged and job.state is JobState.CANCELLED:
        return (
            f"{_uncharged(job)} Somebody may have cancelled it on purpose, so a retry does not create "
            f"another. To run its rows, clear {task}."
        )
    if not job.is_charged and not job.state.is_success:
        return (
            f"{_uncharged(job)} A retry would end the same, so there is none: fix the cause, then clear "
            f"{task}. It creates a new one."
        )
    if is_round:
        return "Clearing this task finds the same job and pays for nothing."
    return (
        "Clearing the submit task finds the same job and pays for nothing. To run all rows again, and pay "
        "for all of them again, give the submit task a new force_new."
    )


def _uncharged(job: BatchJob) -> str:
    is_silent = job.stats.successful is None and not (job.error and job.error.code == IMPORT_FAILED)
    if is_silent:
        return "The service reports neither completed rows nor output, so nothing should be charged."
    return "Nothing is charged."


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
