"""The log of a job from its creation to its rows: few lines, each of which fits a screen."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobName, JobState
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, RowFault, RowFaultKind
from airflow_gemini_batch.jobs.polling import PollState
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from airflow_gemini_batch.tasks.options import EndOptions
from airflow_gemini_batch.tasks.wait import ended_well
from tests.tasks.test_sensor import wait_deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.cloud import bigquery

    from airflow_gemini_batch.emulator.server import Emulator

Context = Any
Lines = list[tuple[str, str]]

# Names as long as they often are.
PROJECT = "my-analytics-project-prod"
LOCATION = "northamerica-northeast1"
TABLE = f"{PROJECT}.analytics_of_answers.classified_questions"
WIDTH, MOST_LINES = 110, 20

# What Airflow says to a test that calls ``execute`` itself.
_OF_THE_TEST = "execute cannot be called outside"
# Of Airflow 3's own log: time, level, message, logger.
_PRINTED = re.compile(r"\S+ \[(\w+) *\] (.*?) +\[([\w.]*airflow_gemini_batch[\w.]*)\] loc=\S+")


@pytest.fixture
def table(bigquery_client: bigquery.Client) -> Iterator[str]:
    """A results table, not created yet, with long names."""
    from google.cloud import bigquery as bq

    dataset = bq.Dataset(TABLE.rpartition(".")[0])
    dataset.location = "us-central1"
    bigquery_client.create_dataset(dataset)
    yield TABLE
    bigquery_client.delete_dataset(dataset, delete_contents=True)


@pytest.fixture
def log_of_a_job(
    submit_args: dict[str, Any],
    context: Context,
    table: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[], tuple[Lines, str]]:
    """Submits, waits and lands; returns level and text of each line of the package, and the job's name."""

    def run() -> tuple[Lines, str]:
        submit = {**submit_args, "location": LOCATION, "project_id": PROJECT}
        with caplog.at_level(logging.INFO, logger="airflow_gemini_batch"):
            name = GeminiBatchSubmitOperator(**submit, labels={"emulator-pace": "reads-4"}).execute(context)
            sensor = GeminiBatchJobSensor(task_id="wait", job_name=name, poll_interval=0.05)
            wait_deferred(sensor, context)
            GeminiBatchResultsToBigQueryOperator(
                task_id="land", job_name=name, destination_table=table
            ).execute(context)
        # Airflow 3 writes the log of an operator to standard output here, Airflow 2 uses logging.
        lines = [
            (each.levelname, each.getMessage()) for each in caplog.records if "gemini_batch" in each.name
        ]
        printed = _PRINTED.findall(capsys.readouterr().out)
        lines += [(level.upper(), text) for level, text, _ in printed]
        return [line for line in lines if _OF_THE_TEST not in line[1]], str(name)

    return run


def check_lines(lines: Lines, name: str) -> None:
    """A long name stands on a line of its own, which is the only one that may be long."""
    assert [text for _, text in lines if len(text) > WIDTH and text != name] == []
    assert len(lines) <= MOST_LINES
    assert len({text for _, text in lines}) == len(lines)


def test_the_log_of_a_job_has_few_lines_that_fit(log_of_a_job: Callable[[], tuple[Lines, str]]) -> None:
    lines, name = log_of_a_job()
    check_lines(lines, name)
    job_id = name.rpartition("/")[2]
    texts = [text for _, text in lines]
    for expected in (
        r"Estimate: 3 requests, at least \$0\.\d+",
        rf"Created batch job {job_id} \(PENDING\): no earlier job was found",
        re.escape(name),
        rf"Batch job {job_id} is RUNNING after .*",
        rf"Batch job {job_id} ended as SUCCEEDED: 3 succeeded, 0 failed, 0 incomplete",
        r"Landed 3 rows: 3 succeeded; about \$0\.\d+, 12 tokens",
        f"Results: {TABLE}",
    ):
        assert sum(bool(re.fullmatch(expected, text)) for text in texts) == 1, expected
    assert {level for level, _ in lines} == {"INFO"}


def test_a_job_without_a_row_that_succeeded_is_a_warning_first(
    log_of_a_job: Callable[[], tuple[Lines, str]], vertex: Emulator
) -> None:
    faults = [
        RowFault(kind=RowFaultKind.EXHAUSTED, nth=(1, 2)),
        RowFault(kind=RowFaultKind.REFUSED, nth=(3,)),
    ]
    vertex.faults = FaultPlan(rows=faults)
    lines, name = log_of_a_job()
    check_lines(lines, name)
    landing = [line for line in lines if line[0] == "WARNING" or line[1].startswith(("Landed", "Results"))]
    assert [level for level, _ in landing] == ["WARNING", "INFO", "INFO", "WARNING", "WARNING"]
    assert [text for level, text in landing if level == "WARNING"] == [
        "No row succeeded, so there is nothing to use in the results table.",
        "3 of 3 rows did not succeed: 2 × 429 RESOURCE_EXHAUSTED, 1 × 400 INVALID_ARGUMENT",
        f"Errors: {TABLE}_errors",
    ]


def test_a_job_whose_completed_rows_are_wanted_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    name = JobName("p", "global", "1")
    job = BatchJob(name, JobState.FAILED, output_location="gs://b/out", stats=CompletionStats(2, 0, 1))
    _, step = PollState(60, None).after_read(job, datetime.now(UTC))
    # How long it took.
    assert step.message.startswith("Batch job 1 is FAILED")
    with caplog.at_level(logging.INFO, logger="airflow_gemini_batch"):
        assert ended_well(job, EndOptions(on_incomplete="continue")) is job
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("The task goes on with the completed rows.")
