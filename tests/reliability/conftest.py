from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.measure import ASKED_BY
from tests.waits import shorten_waits, stay_on_worker

from .landed import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

ROW = '{"key": "%03d", "request": {"contents": [{"role": "user", "parts": [{"text": "%s %d"}]}]}}\n'


@pytest.fixture(scope="module", autouse=True)
def short_waits() -> Iterator[None]:
    """Waits of minutes take milliseconds; the number of look-ups stays the same."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_waits(patch)
        stay_on_worker(patch)
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
    regional: str,
) -> Tables:
    """The local stack, with a dataset in the region of the jobs."""
    return Tables(vertex, storage_client, bigquery_client, bucket, regional)


@pytest.fixture
def submit_args(vertex: Emulator, storage_client: storage.Client, bucket: str) -> dict[str, Any]:
    return {
        "task_id": "submit",
        "model": "gemini-3.5-flash",
        "input_uri": put_input(storage_client, bucket, 3),
        "output_uri": f"gs://{bucket}/out",
        "location": "global",
        "labels": {ASKED_BY: "submit"},
    }
