from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobError, JobName, JobState
from airflow_gemini_batch.job_page.rows import Names, job_row, sorted_rows, totals
from airflow_gemini_batch.jobs.identity import DAG_LABEL, ESTIMATE_LABEL, TASK_LABEL, label_value

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
JOB = BatchJob(
    JobName("p", "global", "12"),
    JobState.RUNNING,
    display_name="Etl.V2.submit [" + "a" * 24 + "." + "b" * 24 + "]",
    model="publishers/google/models/gemini-3.5-flash",
    output_uri="gs://bkt/out",
    stats=CompletionStats(1200, 3, 797),
    create_time=NOW - timedelta(hours=2),
    start_time=NOW - timedelta(minutes=12),
    labels={DAG_LABEL: label_value("Etl.V2"), TASK_LABEL: "submit", ESTIMATE_LABEL: "40000000-55000000"},
)


def test_a_running_job() -> None:
    row = job_row(JOB, NOW, Names.of_dags(["Etl.V2", "other"]))
    assert (row.dag_id, row.task_id, row.title) == ("Etl.V2", "submit", "Etl.V2.submit")
    assert (row.state, row.kind) == ("RUNNING", "running")
    assert row.rows == "1,200 of 2,000, 3 failed"
    assert row.progress == pytest.approx(0.6015)
    assert row.cost == "$40.00 to $55.00, estimated"
    assert row.age == "for 12 min"
    assert row.model == "gemini-3.5-flash"
    assert "batch-predictions/12" in row.job_url
    assert "bkt/out" in row.output_url


def test_names_come_from_the_display_name_if_they_fit_the_labels() -> None:
    labels = {DAG_LABEL: label_value("Etl.V2"), TASK_LABEL: label_value("group.submit")}
    job = replace(JOB, labels=labels, display_name=JOB.display_name.replace("submit", "group.submit"))
    row = job_row(job, NOW)
    assert (row.dag_id, row.task_id) == ("Etl.V2", "group.submit")
    other = job_row(replace(job, display_name="a name of the user"), NOW, Names.of_dags(["Etl.V2"]))
    assert (other.dag_id, other.task_id) == ("Etl.V2", label_value("group.submit"))
    assert job_row(replace(job, display_name="Etl.V3.group.submit"), NOW).dag_id == label_value("Etl.V2")


def test_what_it_has_cost_replaces_the_estimate() -> None:
    row = job_row(JOB, NOW, Names(costs={str(JOB.name): Decimal("41.5")}))
    assert (row.cost, row.cost_usd) == ("$41.50", 41.5)
    assert row.estimate_usd == {"low": 40.0, "high": 55.0}


def test_little_is_known_of_some_jobs() -> None:
    row = job_row(BatchJob(JOB.name, JobState.UNSPECIFIED), NOW)
    assert (row.progress, row.rows, row.cost, row.age, row.dag_id, row.output_url) == (
        None,
        "",
        "",
        "",
        "",
        "",
    )
    assert row.kind == "queued"


@pytest.mark.parametrize(
    ("stats", "text", "progress"),
    [
        (CompletionStats(5, None, None), "5", None),
        (CompletionStats(5, 0, None), "5", None),
        (CompletionStats(0, 0, 0), "0 of 0", None),
        (CompletionStats(5, 0, 5), "5 of 10", 0.5),
    ],
)
def test_counts_may_be_missing(stats: CompletionStats, text: str, progress: float | None) -> None:
    row = job_row(replace(JOB, stats=stats), NOW)
    assert (row.rows, row.progress) == (text, progress)


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_is_of_one_kind(state: JobState) -> None:
    row = job_row(replace(JOB, state=state, end_time=NOW - timedelta(hours=3)), NOW)
    assert sum(totals([row]).values()) == 1
    assert (row.kind in ("good", "bad")) == state.is_terminal
    queued = state in (JobState.QUEUED, JobState.PENDING, JobState.UNSPECIFIED)
    running = "for 12 min" if state is JobState.RUNNING else "started 12 min ago"
    assert row.age == ("3 h ago" if state.is_terminal else "for 2 h" if queued else running)


def test_jobs_that_have_not_ended_come_first_and_each_kind_newest_first() -> None:
    jobs = [
        replace(JOB, name=JobName("p", "global", str(n)), state=state, create_time=NOW - timedelta(hours=n))
        for n, state in enumerate(
            (JobState.SUCCEEDED, JobState.QUEUED, JobState.FAILED, JobState.RUNNING), start=1
        )
    ]
    assert [row.job_id for row in sorted_rows(job_row(job, NOW) for job in jobs)] == ["2", "4", "1", "3"]


def test_an_error_is_shown() -> None:
    failed = replace(JOB, state=JobState.FAILED, error=JobError(3, "Failed to import data."))
    assert job_row(failed, NOW).error == "Failed to import data."
