from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.task_instance import TaskInstance

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack

REQUEST = '{"key": "row-%d", "request": {"contents": [{"role": "user", "parts": [{"text": "Hello %d"}]}]}}\n'


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


@pytest.fixture
def context(ti: TaskInstance) -> dict[str, Any]:
    return {"ti": ti}


@pytest.fixture
def regional(bigquery_client: bigquery.Client, dataset: str) -> str:
    """A dataset in the job's region."""
    from google.cloud import bigquery as bq

    made = bq.Dataset(f"{dataset}_regional")
    made.location = "us-central1"
    bigquery_client.create_dataset(made)
    return f"{dataset}_regional"


@pytest.fixture
def input_uri(stack: RunningStack, storage_client: storage.Client, bucket: str) -> str:
    """Three requests in Cloud Storage."""
    lines = "".join(REQUEST % (n, n) for n in range(3))
    storage_client.bucket(bucket).blob("in/requests.jsonl").upload_from_string(lines)
    return f"gs://{bucket}/in/requests.jsonl"


@pytest.fixture
def submit_args(vertex: Emulator, input_uri: str, bucket: str) -> dict[str, Any]:
    return {
        "task_id": "submit",
        "model": "gemini-2.5-flash",
        "input_uri": input_uri,
        "output_uri": f"gs://{bucket}/out",
        "location": "us-central1",
    }
