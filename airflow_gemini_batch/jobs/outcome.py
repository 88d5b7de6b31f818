"""A job that has ended, in words and as the small dict that goes to XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_gemini_batch.batch_job import BatchJob

# google.rpc.Code of jobs that were seen to fail, and what helped.
_ADVICE = {
    1: "It was cancelled by somebody or by the service.",
    3: "The input was refused as a whole: nothing ran and nothing is charged. The service infers one type "
    "for each JSON path over the whole file, so one odd line fails all of them; the message names the path.",
    7: "Give the service agent named in the message the role that it lacks: roles/storage.objectAdmin on the "
    "bucket, or roles/bigquery.dataEditor and roles/bigquery.jobUser for BigQuery.",
    9: "Check that the bucket or dataset exists, and that it lies in the job's region.",
    13: "An error inside the service. Run the task again; if it stays, ask Google Cloud's support.",
}


def summarise(job: BatchJob) -> dict[str, Any]:
    """Put the facts that the next tasks need into a small JSON-able dict."""
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
    """Say of a job that did not succeed: why, what was done, where it lies, and what to do now."""
    lines = [f"Batch job {job.name} ended {job.state.name}."]
    if job.error:
        lines.append(f"The service says: {job.error.code} {job.error.message}".rstrip())
        if advice := _ADVICE.get(job.error.code):
            lines.append(advice)
    elif job.state is JobState.EXPIRED:
        lines.append("A job may queue for 72 hours and run for 24; this one ran out of time.")
    lines.append(f"Rows: {job.stats}.")
    if job.output_location:
        lines.append(
            f"Completed rows are charged and kept at {job.output_location}. To land them, set "
            "on_incomplete='continue' on the sensor, or run GeminiBatchResultsToBigQueryOperator on this job."
        )
    else:
        lines.append("No output was written.")
    lines.append("Clearing the submitting task creates a new job; this one does not go on.")
    return " ".join(lines)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
