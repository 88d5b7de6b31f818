"""The sample data of the example DAGs: a bucket and a dataset with requests."""

from __future__ import annotations

import itertools
import json
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_gemini_batch.local_stack.rest import call
from airflow_gemini_batch.local_stack.stack import REGION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_gemini_batch.local_stack.stack import StackAddresses

BUCKET = "my-bucket"
DATASET = "my_dataset"
PLACES = (f"gs://{BUCKET}/requests.jsonl", f"gs://{BUCKET}/requests/*.jsonl", f"{DATASET}.requests")
"""Where :func:`seed` stores the requests: a file, files, and a table."""

_FILES = 2
_ROWS_A_FILE = 10


def seed(addresses: StackAddresses) -> None:
    """Make the bucket and the dataset, and store the same twenty requests in each of :data:`PLACES`."""
    rows = sample()
    call(f"{addresses.storage_url}/storage/v1/b?project={addresses.project}", {"name": BUCKET})
    files = {f"requests/part-{number}.jsonl": rows[number::_FILES] for number in range(_FILES)}
    for name, part in {"requests.jsonl": rows, **files}.items():
        upload = f"{addresses.storage_url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media"
        lines = "".join(json.dumps(row) + "\n" for row in part)
        call(f"{upload}&name={quote(name, safe='')}", raw=lines.encode())

    project = f"{addresses.bigquery_url}/bigquery/v2/projects/{addresses.project}"
    dataset = {"projectId": addresses.project, "datasetId": DATASET}
    call(f"{project}/datasets", {"datasetReference": dataset, "location": REGION})
    load = {
        "sourceUris": [f"gs://{BUCKET}/requests.jsonl"],
        "sourceFormat": "NEWLINE_DELIMITED_JSON",
        "destinationTable": {**dataset, "tableId": "requests"},
        "schema": {"fields": [{"name": "key", "type": "STRING"}, {"name": "request", "type": "JSON"}]},
    }
    job = call(f"{project}/jobs", {"configuration": {"load": load}})
    while job["status"]["state"] != "DONE":
        job = call(f"{project}/jobs/{job['jobReference']['jobId']}")
    if error := job["status"].get("errorResult"):
        raise RuntimeError(f"The sample requests could not be loaded: {error['message']}")


def sample() -> list[dict[str, Any]]:
    """Return the requests that :func:`seed` stores."""
    return list(itertools.islice(_requests(), _FILES * _ROWS_A_FILE))


def _requests() -> Iterator[dict[str, Any]]:
    """Yield a request for each installed distribution, about its summary."""
    packages = [found.metadata for found in metadata.distributions()]
    summaries = {each["Name"]: each["Summary"] for each in packages if "Summary" in each}
    for name, summary in sorted(summaries.items()):
        prompt = f"Who needs this Python package, in one sentence? {name}: {summary}"
        yield {
            "key": f"dist-{name.lower()}",
            "request": {"contents": [{"role": "user", "parts": [{"text": prompt}]}]},
        }
