"""The output of a job as the input of the next, which the service is said to finish: our side takes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.faults.plan import FaultPlan, RowFault, RowFaultKind
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


def request(number: int) -> dict[str, Any]:
    parts = [{"text": f"Hello {number}"}]
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": {"maxOutputTokens": 1000}}


@pytest.fixture
def submit(
    vertex: Emulator, context: Context, ti: TaskInstance, bucket: str, regional: str
) -> Callable[..., dict[str, Any]]:
    """Submits a job, waits, and returns its resource."""

    def run(task_id: str, input_uri: str, place: str, **more: Any) -> dict[str, Any]:
        ti.task_id = task_id
        name = GeminiBatchSubmitOperator(
            task_id=task_id,
            model="gemini-3.5-flash",
            input_uri=input_uri,
            output_uri=f"gs://{bucket}/{task_id}" if place == "objects" else f"bq://{regional}.{task_id}",
            location="global",
            wait_for_completion=True,
            deferrable=False,
            poll_interval=0.1,
            **more,
        ).execute(context)
        (job,) = (job for job in vertex.jobs if job["name"] == name)
        return job

    return run


@pytest.mark.any_airflow
@pytest.mark.parametrize("goes_to", ["objects", "table"])
@pytest.mark.parametrize("lies_in", ["objects", "table"])
def test_a_job_goes_on_with_the_output_of_another(
    submit: Callable[..., dict[str, Any]],
    vertex: Emulator,
    context: Context,
    ti: TaskInstance,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
    bucket: str,
    regional: str,
    lies_in: str,
    goes_to: str,
) -> None:
    lines = "".join(json.dumps({"key": f"row-{n}", "request": request(n)}) + "\n" for n in range(4))
    storage_client.bucket(bucket).blob("in.jsonl").upload_from_string(lines)
    kinds = (RowFaultKind.EXHAUSTED, RowFaultKind.REFUSED)
    vertex.faults = FaultPlan(rows=[RowFault(kind=kind, nth=(n,)) for n, kind in enumerate(kinds, 1)])
    first = submit("first", f"gs://{bucket}/in.jsonl", lies_in)
    assert first["completionStats"]["failedCount"] == "2"
    directory = first["outputInfo"].get("gcsOutputDirectory")
    output = f"{directory}/predictions.jsonl" if directory else f"bq://{regional}.first"

    # Neither the check of the input nor that of its cost may stand in the way.
    vertex.faults = FaultPlan()
    second = submit("second", output, goes_to, preflight=True, max_cost_usd=1)
    assert second["completionStats"] == {"successfulCount": "4"}
    assert submit("second", output, goes_to)["name"] == second["name"]  # found by its fingerprint
    assert len(vertex.jobs) == 2

    table = f"{regional}.answers"
    counts = []
    for job in (first, second):
        ti.task_id = "land"
        manifest = GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=job["name"], destination_table=table, write_mode="merge"
        ).execute(context)
        assert manifest["joined_by"] == {"key": 4}
        counts.append((manifest["input_rows"], manifest["counts"]["succeeded"]))
    assert counts == [(4, 2), (4, 4)]
    rows = list(bigquery_client.query_and_wait(f"SELECT key, status, job_name FROM `{table}`"))
    assert {row["key"]: row["status"] for row in rows} == {f"row-{n}": "succeeded" for n in range(4)}
    assert {row["job_name"] for row in rows} == {second["name"]}


def test_what_has_an_answer_is_copied(
    submit: Callable[..., dict[str, Any]], vertex: Emulator, storage_client: storage.Client, bucket: str
) -> None:
    def lines_of(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
        directory = job["outputInfo"]["gcsOutputDirectory"].removeprefix(f"gs://{bucket}/")
        data = storage_client.bucket(bucket).blob(f"{directory}/predictions.jsonl").download_as_bytes()
        lines = [json.loads(line) for line in data.split(b"\n") if line]
        return {line["key"]: line for line in lines}

    text = "".join(json.dumps({"key": f"row-{n}", "request": request(n)}) + "\n" for n in range(3))
    storage_client.bucket(bucket).blob("in.jsonl").upload_from_string(text)
    vertex.faults = FaultPlan(rows=[RowFault(kind=RowFaultKind.EXHAUSTED, nth=(1,))])
    first = submit("first", f"gs://{bucket}/in.jsonl", "objects")
    # The fault would hit every row that is asked.
    vertex.faults = FaultPlan(rows=[RowFault(kind=RowFaultKind.REFUSED, probability=1.0)])
    second = submit("second", f"{first['outputInfo']['gcsOutputDirectory']}/*.jsonl", "objects")
    before, after = lines_of(first), lines_of(second)
    assert {key: after[key] for key in ("row-1", "row-2")} == {key: before[key] for key in ("row-1", "row-2")}
    assert before["row-0"]["status"].startswith("Too Many Requests")
    assert after["row-0"]["status"].startswith("Bad Request")
