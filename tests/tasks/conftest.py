from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.requests.key_field import KeyField
from tests.task_instance import TaskInstance
from tests.tasks.landed import FIRST, ROWS, Context, Landed, request
from tests.waits import shorten_lookups, stay_on_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.faults.plan import FaultPlan
    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack

REQUEST = '{"key": "row-%d", "request": {"contents": [{"role": "user", "parts": [{"text": "Hello %d"}]}]}}\n'


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_lookups(monkeypatch)
    stay_on_worker(monkeypatch)


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


@pytest.fixture
def context(ti: TaskInstance) -> dict[str, Any]:
    return {"ti": ti}


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
        "model": "gemini-3.5-flash",
        "input_uri": input_uri,
        "output_uri": f"gs://{bucket}/out",
        "location": "global",
    }


@pytest.fixture
def land(
    vertex: Emulator,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
    context: Context,
    ti: TaskInstance,
    bucket: str,
    dataset: str,
) -> Callable[..., Landed]:
    """Submits and lands a job, of ten rows if not told, under a plan, in a dataset of the region or not."""

    def run(
        plan: FaultPlan = FIRST,
        *,
        regional: bool = True,
        output_uri: str | None = None,
        requests: Sequence[dict[str, Any]] | None = None,
        key_field: str = "key",
        model: str = "gemini-3.5-flash",
    ) -> Landed:
        from google.cloud import bigquery as bq

        place = dataset
        if regional:
            place = f"{dataset}_regional"
            made = bq.Dataset(place)
            made.location = "us-central1"
            bigquery_client.create_dataset(made)
        requests = requests or [request(n) for n in range(ROWS)]
        field = KeyField.parse(key_field)
        lines = [field.line(f"row-{n}", each) for n, each in enumerate(requests)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        storage_client.bucket(bucket).blob("in.jsonl").upload_from_string(text)
        vertex.faults = plan
        submit = GeminiBatchSubmitOperator(
            task_id="submit",
            model=model,
            input_uri=f"gs://{bucket}/in.jsonl",
            output_uri=(output_uri and output_uri.format(dataset=place)) or f"gs://{bucket}/out",
            location="global",
            wait_for_completion=True,
            deferrable=False,
            poll_interval=0.1,
            key_field=key_field,
        )
        name = submit.execute(context)
        table = f"{place}.answers"
        GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=name, destination_table=table, key_field=key_field
        ).execute(context)
        ti.task_id = "retry"
        return Landed(vertex, bigquery_client, context, table, name, {"key_field": key_field})

    return run
