from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.measure import ASKED_BY

from .landed import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

ROW = '{"key": "%03d", "request": {"contents": [{"role": "user", "parts": [{"text": "%s %d"}]}]}}\n'


def shorten_waits(patch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives import serialization

    from airflow_gemini_batch.hooks import gemini_batch
    from airflow_gemini_batch.jobs import submission

    for waits in ("LOOKUP_WAITS", "RETRY_WAITS"):
        patch.setattr(submission, waits, (0.001,) * len(getattr(submission, waits)))
    # In Airflow each task is a process that parses its key once; here all tasks share one process.
    patch.setattr(serialization, "load_pem_private_key", cache(serialization.load_pem_private_key))
    patch.setattr(gemini_batch, "_READ_WAIT", 0.001)


@pytest.fixture(scope="module", autouse=True)
def short_waits() -> Iterator[None]:
    """Waits of minutes take milliseconds; the number of look-ups stays the same."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_waits(patch)
        yield


def put_input(
    client: storage.Client, bucket: str, rows: int, name: str = "in.jsonl", text: str = "Hello"
) -> str:
    client.bucket(bucket).blob(name).upload_from_string("".join(ROW % (n, text, n) for n in range(rows)))
    return f"gs://{bucket}/{name}"


@pytest.fixture
def tables(
    vertex: Emulator,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
    bucket: str,
    dataset: str,
) -> Tables:
    """The local stack, with a dataset in the region of the jobs."""
    from google.cloud import bigquery as bq

    regional = bq.Dataset(f"{dataset}_regional")
    regional.location = "us-central1"
    bigquery_client.create_dataset(regional)
    return Tables(vertex, storage_client, bigquery_client, bucket, f"{dataset}_regional")


@pytest.fixture
def submit_args(vertex: Emulator, storage_client: storage.Client, bucket: str) -> dict[str, Any]:
    return {
        "task_id": "submit",
        "model": "gemini-2.5-flash",
        "input_uri": put_input(storage_client, bucket, 3),
        "output_uri": f"gs://{bucket}/out",
        "location": "us-central1",
        "labels": {ASKED_BY: "submit"},
    }
