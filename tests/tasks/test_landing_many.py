"""Landing the jobs of a mapped task together: one script for all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY, AirflowFailException

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.emulator.faults.plan import (
    CallFault,
    CallFaultKind,
    FaultPlan,
    JobFault,
    OutputFault,
    Route,
)
from airflow_gemini_batch.exceptions import InvalidParameterError, OutputNotFoundError, QualityGateError
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs.reading import read_jobs
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.task_instance import TaskInstance

Context = Any
LINE = '{"key": "row-%d", "request": {"contents": [{"role": "user", "parts": [{"text": "%s"}]}]}}\n'
JOBS, ROWS = 12, 3


@pytest.fixture
def submit(
    submit_args: dict[str, Any],
    storage_client: storage.Client,
    bucket: str,
    ti: TaskInstance,
    context: Context,
) -> Callable[[int], str]:
    """Runs one map index of the task that submits, to the end of its job."""

    def run(index: int) -> str:
        text = "".join(LINE % (row, f"file {index}, row {row}") for row in range(ROWS))
        name = f"many/{index}.jsonl"
        storage_client.bucket(bucket).blob(name).upload_from_string(text)
        ti.map_index = index
        given = {
            **submit_args,
            "input_uri": f"gs://{bucket}/{name}",
            "output_uri": f"gs://{bucket}/out/{index}",
        }
        task = GeminiBatchSubmitOperator(
            **given, wait_for_completion=True, deferrable=False, on_incomplete="continue"
        )
        try:
            return str(task.execute(context))
        finally:
            ti.map_index = -1

    return run


@pytest.fixture
def land(dataset: str, context: Context) -> Callable[..., Any]:
    def run(names: Any, **values: Any) -> Any:
        given = {"task_id": "land", "destination_table": f"{dataset}.answers", "deferrable": False, **values}
        return GeminiBatchResultsToBigQueryOperator(job_name=names, **given).execute(context)

    return run


def landings(client: bigquery.Client, since: datetime) -> int:
    """How many BigQuery jobs have landed something."""
    jobs = client.list_jobs(min_creation_time=since)
    return sum(job.job_id.startswith("gemini-batch-land-") for job in jobs)


def test_many_jobs_cost_one_landing_and_few_reads(
    submit: Callable[[int], str],
    land: Callable[..., Any],
    vertex: Emulator,
    bigquery_client: bigquery.Client,
    dataset: str,
    bucket: str,
) -> None:
    names = [submit(index) for index in range(JOBS)]
    begun, reads = datetime.now(UTC), len(vertex.requests)
    manifest = land([*names, names[0]], report_uri=f"gs://{bucket}/reports/")
    assert landings(bigquery_client, begun) == 1
    assert len(vertex.requests) - reads < JOBS
    assert manifest["counts"]["succeeded"] == manifest["input_rows"] == JOBS * ROWS
    assert [each["job_name"] for each in manifest["jobs"]] == names
    estimates = [each["estimated_cost_usd"]["low"] for each in manifest["jobs"]]
    assert sum(estimates) > 0
    assert manifest["estimated_cost_usd"]["low"] == pytest.approx(sum(estimates))
    found = bigquery_client.query_and_wait(f"SELECT job_name, key, source_uri FROM `{dataset}.answers`")
    rows = {(row["job_name"], row["key"]): row["source_uri"] for row in found}
    assert rows == {
        (name, f"row-{row}"): f"gs://{bucket}/many/{index}.jsonl"
        for index, name in enumerate(names)
        for row in range(ROWS)
    }


def test_jobs_without_output_do_not_keep_the_others_from_being_landed(
    submit: Callable[[int], str],
    land: Callable[..., Any],
    vertex: Emulator,
    bigquery_client: bigquery.Client,
    dataset: str,
    ti: TaskInstance,
) -> None:
    good = [submit(0), submit(1)]
    vertex.faults = FaultPlan(jobs=[JobFault(output=OutputFault.EMPTY)])
    lost = submit(2)
    with pytest.raises(AirflowFailException, match="1 of 3 jobs left no output to land") as caught:
        land([good[0], lost, good[1]])
    assert isinstance(caught.value.__cause__, OutputNotFoundError)
    assert lost in str(caught.value)
    assert f"The rows of the other jobs are in {dataset}.answers" in str(caught.value)
    assert ti.xcom[XCOM_RETURN_KEY]["counts"]["succeeded"] == 2 * ROWS
    ((count,),) = bigquery_client.query_and_wait(f"SELECT COUNT(*) FROM `{dataset}.answers`")
    assert count == 2 * ROWS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has no jobs"),
        (["projects/p/locations/global/batchPredictionJobs/1", "x"], r"job_name\[1\]"),
        ([None], r"job_name\[0\]"),
        (7, "job_name"),
    ],
)
def test_names_that_are_none(land: Callable[..., Any], names: Any, message: str) -> None:
    with pytest.raises((AirflowFailException, InvalidParameterError), match=message):
        land(names)


def test_a_gate_counts_the_rows_of_all_jobs(submit: Callable[[int], str], land: Callable[..., Any]) -> None:
    names = [submit(0), submit(1)]
    with pytest.raises(AirflowFailException, match="of 2 batch jobs succeeded") as caught:
        land(
            names,
            min_success_ratio=1,
            response_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
        )
    assert isinstance(caught.value.__cause__, QualityGateError)


def test_reports_of_several_jobs_go_to_a_folder(
    submit: Callable[[int], str], land: Callable[..., Any]
) -> None:
    with pytest.raises(AirflowFailException, match=r"report_uri.*give a folder"):
        land([submit(0), submit(1)], report_uri="gs://bucket/report.html")


def test_jobs_that_no_list_shows_are_read_one_by_one(submit: Callable[[int], str], vertex: Emulator) -> None:
    names = [JobName.parse(submit(index)) for index in range(JOBS)]
    refuses = CallFault(route=Route.LIST, kind=CallFaultKind.STATUS, status=400)
    vertex.faults = FaultPlan(calls=[refuses])
    assert [job.name for job in read_jobs(GeminiBatchHook(), names)] == names
    loses = CallFault(route=Route.LIST, kind=CallFaultKind.TRUNCATE, keep=2)
    vertex.faults = FaultPlan(calls=[loses])
    assert [job.name for job in read_jobs(GeminiBatchHook(), list(reversed(names)))] == names[::-1]
