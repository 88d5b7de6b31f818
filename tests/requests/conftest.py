"""Runs jobs on the emulator with the content of a file as input."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud import storage

    from airflow_gemini_batch.emulator.server import Emulator

_PARENT = "/v1/projects/local-project/locations/global/batchPredictionJobs"


@dataclass(frozen=True)
class FinishedJob:
    """How a job ended.

    :param rows: the lines of its output
    """

    state: str
    error: dict[str, Any]
    rows: list[dict[str, Any]]


@pytest.fixture
def run_job(vertex: Emulator, storage_client: storage.Client, bucket: str) -> Callable[..., FinishedJob]:
    """Run a job on the content of a file."""

    def call(method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"{vertex.url}{path}", method=method)  # noqa: S310
        request.add_header("Authorization", "Bearer any")
        request.data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(request) as response:  # noqa: S310
            return json.load(response)

    def run(content: bytes, model: str = "gemini-3.5-flash") -> FinishedJob:
        storage_client.bucket(bucket).blob("in.jsonl").upload_from_string(content)
        job = call(
            "POST",
            _PARENT,
            {
                "displayName": "a job",
                "model": f"publishers/google/models/{model}",
                "inputConfig": {
                    "instancesFormat": "jsonl",
                    "gcsSource": {"uris": [f"gs://{bucket}/in.jsonl"]},
                },
                "outputConfig": {
                    "predictionsFormat": "jsonl",
                    "gcsDestination": {"outputUriPrefix": f"gs://{bucket}/out"},
                },
            },
        )
        while not JobState(job["state"]).is_terminal:
            job = call("GET", f"/v1/{job['name']}")
        rows: list[dict[str, Any]] = []
        for blob in storage_client.list_blobs(bucket, prefix="out/"):
            rows.extend(json.loads(line) for line in blob.download_as_bytes().split(b"\n") if line)
            blob.delete()
        return FinishedJob(job["state"], job.get("error", {}), rows)

    return run
