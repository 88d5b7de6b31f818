"""What the end of a job means: what is charged, and how to go on without paying twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobError, JobName, JobState
from airflow_gemini_batch.jobs.outcome import explain_end, how_to_run_again

JOB = BatchJob(
    JobName("p", "l", "1"),
    JobState.EXPIRED,
    display_name="title",
    stats=CompletionStats(9, 0, 1),
    output_location="gs://bkt/out/prediction-1",
)
UNCHARGED = replace(JOB, stats=CompletionStats(0, 0, 10), output_location=None)
PAYS_AGAIN = "pay for all of them again, give the submit task a new force_new"


def test_completed_rows_are_used_by_clearing_this_task_and_what_follows() -> None:
    told = explain_end(JOB, task_id="wait")
    assert "9 succeeded" in told
    assert "charged and stored at gs://bkt/out/prediction-1" in told
    go_on = """set on_incomplete="continue" on the task 'wait' in the DAG, then clear it and its downstream"""
    assert go_on in told
    assert "To ask for the rows that are missing as well" in told
    nothing_missing = replace(JOB, stats=CompletionStats(9, 1, 0))
    assert "missing" not in explain_end(nothing_missing)
    assert PAYS_AGAIN in told


def test_there_is_nothing_to_do_about_rows_that_are_used() -> None:
    told = explain_end(JOB, is_used=True)
    assert "charged and stored at" in told
    assert "clear" not in told


@pytest.mark.parametrize("job", [JOB, replace(JOB, output_location=None), UNCHARGED])
def test_advice_about_a_retry_round_never_names_parameters_that_its_task_lacks(job: BatchJob) -> None:
    told = explain_end(job, is_round=True) + how_to_run_again(job, is_round=True)
    assert "force_new" not in told
    assert "on_incomplete" not in told


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.EXPIRED])
def test_whoever_may_pay_again_is_told_so(state: JobState) -> None:
    told = how_to_run_again(replace(JOB, state=state))
    assert "Clearing the submit task finds the same job and pays for nothing" in told
    assert PAYS_AGAIN in told


def test_nothing_is_paid_again_after_a_job_that_is_not_charged() -> None:
    assert "creates a new one" in explain_end(UNCHARGED)
    hopeless = replace(UNCHARGED, state=JobState.FAILED, error=JobError(3, "x"))
    told = explain_end(hopeless)
    assert "fix the cause, then clear the task that submitted the job" in told
    assert "force_new" not in told


def test_a_job_that_runs_is_not_run_again() -> None:
    assert not how_to_run_again(replace(JOB, state=JobState.RUNNING))
