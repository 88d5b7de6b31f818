from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.exceptions import ServiceUnreachableError
from airflow_gemini_batch.metrics.described import METRICS
from airflow_gemini_batch.metrics.measured import of_end, of_landing, of_poll_error, of_submission
from airflow_gemini_batch.results.cost import Tokens
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.summary import Manifest

NAME = JobName("p", "us-central1", "1")
TASK = {"dag_id": "d", "task_id": "t"}
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
JOB = BatchJob(
    NAME,
    JobState.PARTIALLY_SUCCEEDED,
    model="publishers/google/models/gemini-3.5-flash",
    create_time=NOON,
    start_time=NOON + timedelta(minutes=5),
    end_time=NOON + timedelta(minutes=7),
)
MANIFEST = Manifest(
    job_name=str(NAME),
    state="",
    destination_table="",
    error_table="",
    output_location="",
    counts=dict.fromkeys(RowStatus, 0) | {RowStatus.SUCCEEDED: 2, RowStatus.BLOCKED: 1},
    input_rows=3,
    output_rows=3,
    duplicates=0,
    unmatched=0,
    joined_by={},
    tokens=Tokens(prompt=10, output=5, total=15),
    cost_usd=Decimal("0.001234"),
    landed_at=NOON,
)


def test_tags_name_the_task_the_model_and_the_location() -> None:
    (found,) = of_submission(NAME, "gemini-3.5-flash", TASK, created=False)
    assert found.name == "gemini_batch.jobs.attached"
    assert found.tags == {**TASK, "model": "gemini-3.5-flash", "location": "us-central1"}


def test_a_tuned_model_is_named_by_its_id() -> None:
    model = "projects/p/locations/us-central1/models/123"
    (found,) = of_submission(NAME, model, TASK, created=True)
    assert found.tags["model"] == "123"


def test_an_end_with_its_times() -> None:
    found = {each.name: each.value for each in of_end(JOB, TASK)}
    assert found == {
        "gemini_batch.jobs.ended.partially_succeeded": 1,
        "gemini_batch.jobs.queued_duration": timedelta(minutes=5),
        "gemini_batch.jobs.run_duration": timedelta(minutes=2),
    }


def test_a_job_that_never_started_has_no_times() -> None:
    expired = replace(JOB, state=JobState.EXPIRED, start_time=None)
    assert [each.name for each in of_end(expired, TASK)] == ["gemini_batch.jobs.ended.expired"]


def test_a_start_before_the_creation_is_no_time() -> None:
    odd = replace(JOB, start_time=NOON - timedelta(seconds=1))
    values = {each.name: each.value for each in of_end(odd, TASK)}
    assert values["gemini_batch.jobs.queued_duration"] == timedelta()


def test_a_landing_leaves_out_what_is_zero() -> None:
    assert {each.name: each.value for each in of_landing(JOB, MANIFEST, TASK, None)} == {
        "gemini_batch.rows.succeeded": 2,
        "gemini_batch.rows.blocked": 1,
        "gemini_batch.tokens.prompt": 10,
        "gemini_batch.tokens.output": 5,
        "gemini_batch.tokens.total": 15,
        "gemini_batch.cost_micro_usd": 1234,
    }
    unknown = replace(MANIFEST, cost_usd=None)
    names = [each.metric.name for each in of_landing(JOB, unknown, TASK, None)]
    assert "gemini_batch.cost_micro_usd" not in names


def test_rows_that_an_earlier_try_has_landed_are_not_counted_again() -> None:
    assert list(of_landing(JOB, MANIFEST, TASK, NOON + timedelta(minutes=1))) == []
    assert list(of_landing(JOB, MANIFEST, TASK, NOON + timedelta(seconds=2)))  # Clocks differ.


def test_an_error_is_named_by_its_class() -> None:
    """Its message may quote anything."""
    (found,) = of_poll_error(NAME, ServiceUnreachableError("the colour of the safe"))
    assert found.tags == {"location": "us-central1", "error": "ServiceUnreachableError"}


def test_names_are_what_airflow_accepts() -> None:
    for each in METRICS:
        for name in [f"{each.name}.{value}" for value in each.values] or [each.name]:
            assert len(name) <= 63  # As OpenTelemetry allows, with room for Airflow's prefix.
            assert set(name) <= set("abcdefghijklmnopqrstuvwxyz_.")
        assert bool(each.placeholder) == bool(each.values)
