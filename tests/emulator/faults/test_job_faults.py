"""Faults of jobs and rows, in Cloud Storage and in tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault, OutputFault, RowFault, RowFaultKind
from airflow_gemini_batch.emulator.running.rows import Habits
from airflow_gemini_batch.emulator.server import Emulator
from tests.emulator.test_jobs import lines, put, run

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

pytestmark = pytest.mark.usefixtures("servers")


def written(
    client: storage.Client, bucket: str, count: int = 4, **plan: Any
) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    """Run a job under a plan; return its resource and the lines of its output by object."""
    source = put(client, f"gs://{bucket}/in.jsonl", lines(count))
    with Emulator(faults=FaultPlan(**plan), habits=Habits(shuffles=False)) as emulator:
        job = run(emulator, source, f"gs://{bucket}/out")
    found = {
        blob.name.rpartition("/")[2]: blob.download_as_bytes().split(b"\n")[:-1]
        for blob in client.list_blobs(bucket, prefix="out/")
    }
    return job, found


def keys(found: list[bytes]) -> list[str]:
    return [json.loads(line)["key"] for line in found]


@pytest.mark.parametrize(
    ("ends", "code"), [("FAILED", 13), ("CANCELLED", 1), ("EXPIRED", None), ("PARTIALLY_SUCCEEDED", None)]
)
def test_a_job_that_ends_early_exports_the_processed_rows(
    storage_client: storage.Client, bucket: str, ends: str, code: int | None
) -> None:
    job, found = written(storage_client, bucket, jobs=[JobFault(ends=JobState[ends], after_rows=3)])
    assert job["state"] == f"JOB_STATE_{ends}"
    assert job.get("error", {}).get("code") == code
    assert job["completionStats"] == {"successfulCount": "3", "incompleteCount": "1"}
    assert keys(found["predictions.jsonl"]) == ["k0", "k1", "k2"]


@pytest.mark.parametrize(
    ("fault", "says", "objects"),
    [
        (JobFault(ends=JobState.EXPIRED, after_rows=2, exports=False), False, 0),
        (JobFault(output=OutputFault.NO_INFO), False, 1),
        (JobFault(output=OutputFault.EMPTY), True, 0),
    ],
)
def test_output_info_can_be_missing_or_wrong(
    storage_client: storage.Client, bucket: str, fault: JobFault, says: bool, objects: int
) -> None:
    job, found = written(storage_client, bucket, jobs=[fault])
    assert ("outputInfo" in job, len(found)) == (says, objects)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (3, "Failed to import data."),
        (7, "storage.objects.create"),
        (9, "Failed to get GCS bucket location"),
        (13, "System error."),
    ],
)
def test_a_job_fails_with_each_code(
    storage_client: storage.Client, bucket: str, code: int, says: str
) -> None:
    job, _ = written(storage_client, bucket, jobs=[JobFault(ends=JobState.FAILED, code=code, after_rows=0)])
    assert job["error"]["code"] == code
    assert says in job["error"]["message"]


@pytest.mark.parametrize(
    ("label", "state", "stats"),
    [
        ("expired-3", "EXPIRED", {"successfulCount": "3", "incompleteCount": "1"}),
        ("failed-0", "FAILED", {"incompleteCount": "4"}),
        ("cancelled", "CANCELLED", {"successfulCount": "4"}),
    ],
)
def test_a_job_can_ask_for_its_end(
    storage_client: storage.Client, bucket: str, label: str, state: str, stats: dict[str, str]
) -> None:
    source = put(storage_client, f"gs://{bucket}/in.jsonl", lines(4))
    with Emulator() as emulator:
        job = run(emulator, source, f"gs://{bucket}/out", labels={"emulator-ends": label})
    assert (job["state"], job["completionStats"]) == (f"JOB_STATE_{state}", stats)
    assert ("outputInfo" in job) == (label != "failed-0")


def test_counts_can_be_missing(storage_client: storage.Client, bucket: str) -> None:
    source = put(storage_client, f"gs://{bucket}/in.jsonl", lines(4))
    fault = JobFault(ends=JobState.EXPIRED, after_rows=2, counts=False)
    with Emulator(faults=FaultPlan(jobs=[fault])) as emulator:
        job = run(emulator, source, f"gs://{bucket}/out")
        assert "completionStats" not in job
        assert emulator.completed_rows == {job["name"]: 2}


def test_shards_and_an_incremental_file(storage_client: storage.Client, bucket: str) -> None:
    _, found = written(storage_client, bucket, 5, jobs=[JobFault(shards=2, incremental=True)])
    assert {name: keys(rows) for name, rows in found.items()} == {
        "incremental_predictions.jsonl": ["k0", "k1"],
        "predictions.jsonl-00000-of-00002": ["k0", "k1"],
        "predictions.jsonl-00001-of-00002": ["k2", "k3", "k4"],
    }


def test_rows_are_hit_by_their_number_in_the_input(storage_client: storage.Client, bucket: str) -> None:
    faults = [
        RowFault(kind=RowFaultKind.DROPPED, nth=(1,)),
        RowFault(kind=RowFaultKind.DOUBLED, nth=(2,)),
        RowFault(kind=RowFaultKind.TRUNCATED, nth=(3,)),
    ]
    job, found = written(storage_client, bucket, 5, rows=faults)
    kept = found["predictions.jsonl"]
    assert len(kept) == 5
    assert keys([*kept[:2], *kept[3:]]) == ["k1", "k1", "k3", "k4"]
    assert b"k2" not in kept[2] or not kept[2].endswith(b"}")
    # The service counts the rows that it processed, even if they are not written.
    assert job["completionStats"] == {"successfulCount": "5"}


def test_failed_rows_have_the_format_of_the_service(storage_client: storage.Client, bucket: str) -> None:
    faults = [RowFault(kind=RowFaultKind.EXHAUSTED, nth=(1,)), RowFault(kind=RowFaultKind.REFUSED, nth=(2,))]
    job, found = written(storage_client, bucket, 3, rows=faults)
    rows = [json.loads(line) for line in found["predictions.jsonl"]]
    words, _, error = rows[0]["status"].partition(": ")
    assert (words, json.loads(error)["error"]["code"]) == ("Too Many Requests", 429)
    assert rows[0]["request"]["contents"]
    assert rows[1]["status"].startswith('Bad Request: {"error": {"code": 400, ')
    assert [bool(row["response"]) for row in rows] == [False, False, True]
    assert job["completionStats"] == {"successfulCount": "1", "failedCount": "2"}


def test_rows_of_a_table_are_dropped_and_doubled(
    storage_client: storage.Client, bucket: str, dataset: str, bigquery_client: bigquery.Client
) -> None:
    source = put(storage_client, f"gs://{bucket}/in.jsonl", lines(3))
    faults = [
        RowFault(kind=RowFaultKind.DROPPED, nth=(1,)),
        RowFault(kind=RowFaultKind.DOUBLED, nth=(2,)),
        RowFault(kind=RowFaultKind.CORRUPT),
    ]
    with Emulator(faults=FaultPlan(rows=faults)) as emulator:
        job = run(emulator, source, f"bq://{dataset}.out")
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    rows = bigquery_client.query_and_wait(f"SELECT key FROM `{dataset}.out`")
    assert sorted(row["key"] for row in rows) == ["k1", "k1", "k2"]
