"""Describes a job that has ended: as an error message, and as the summary in XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_gemini_batch.batch_job import BatchJob

# Advice by google.rpc.Code, for codes of jobs that were seen to fail.
_ADVICE = {
    1: "The job was cancelled: by somebody in the console, by the service, or by a task that was stopped, "
    "timed out or replaced its input. The log of such a task names this job.",
    3: "The service rejected the whole input: no row was processed and nothing is charged. It infers one "
    "type per JSON path for the whole file, so a single inconsistent line fails the job; the message names "
    "the path.",
    7: "Grant the service agent named in the message the missing role: roles/storage.objectAdmin on the "
    "bucket, or roles/bigquery.dataEditor and roles/bigquery.jobUser for BigQuery.",
    9: "Check that the bucket or dataset exists and is located in the job's region.",
    13: "An internal error of the service. Run the task again; if it recurs, contact Google Cloud support.",
}


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


def explain_end(job: BatchJob) -> str:
    """Explain a job that did not succeed: the cause, its row counts and output location, and what to do."""
    lines = [f"Batch job {job.name} ended {job.state.name}."]
    if job.error:
        lines.append(f"Vertex AI reported: {job.error.code} {job.error.message}".rstrip())
        if advice := _ADVICE.get(job.error.code):
            lines.append(advice)
    elif job.state is JobState.EXPIRED:
        lines.append("A job can queue for up to 72 hours and run for up to 24; this one exceeded a limit.")
    lines.append(f"Rows: {job.stats}.")
    if job.output_location:
        lines.append(
            f"Completed rows are charged and stored at {job.output_location}. To land them, set "
            "on_incomplete='continue' on the sensor, or run GeminiBatchResultsToBigQueryOperator on this job."
        )
    else:
        lines.append("No output was written.")
    lines.append("Clearing the submit task creates a new job; this one cannot be resumed.")
    return " ".join(lines)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
