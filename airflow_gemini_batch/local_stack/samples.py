"""What the example DAGs expect to find: a bucket and a dataset, with requests in both."""

from __future__ import annotations

import itertools
import json
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_gemini_batch.local_stack.rest import call
from airflow_gemini_batch.local_stack.stack import LOCATION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_gemini_batch.local_stack.stack import StackAddresses

BUCKET = "my-bucket"
DATASET = "my_dataset"
_FILES = 2
_ROWS_A_FILE = 10


def seed(addresses: StackAddresses) -> None:
    """Make the bucket and the dataset, and fill them with the same twenty requests.

    ``gs://my-bucket/requests.jsonl``, ``gs://my-bucket/requests/*.jsonl`` and the table
    ``my_dataset.requests``.
    """
    rows = sample()
    call(f"{addresses.storage_url}/storage/v1/b?project={addresses.project}", {"name": BUCKET})
    files = {f"requests/part-{number}.jsonl": rows[number::_FILES] for number in range(_FILES)}
    for name, part in {"requests.jsonl": rows, **files}.items():
        upload = f"{addresses.storage_url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media"
        lines = "".join(json.dumps(row) + "\n" for row in part)
        call(f"{upload}&name={quote(name, safe='')}", raw=lines.encode())

    project = f"{addresses.bigquery_url}/bigquery/v2/projects/{addresses.project}"
    dataset = {"projectId": addresses.project, "datasetId": DATASET}
    call(f"{project}/datasets", {"datasetReference": dataset, "location": LOCATION})
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
        raise RuntimeError(f"The sample requests cannot be loaded: {error['message']}")


def sample() -> list[dict[str, Any]]:
    """Return the requests that :func:`seed` lays out."""
    return list(itertools.islice(_requests(), _FILES * _ROWS_A_FILE))


def _requests() -> Iterator[dict[str, Any]]:
    """Yield a request for each installed distribution, about the text it says of itself."""
    said = [found.metadata for found in metadata.distributions()]
    about = {each["Name"]: each["Summary"] for each in said if "Summary" in each}
    for name, summary in sorted(about.items()):
        prompt = f"Who needs this Python package, in one sentence? {name}: {summary}"
        yield {
            "key": f"dist-{name.lower()}",
            "request": {"contents": [{"role": "user", "parts": [{"text": prompt}]}]},
        }
