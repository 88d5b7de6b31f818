"""What the example DAGs expect to find: a bucket and a dataset, with requests in both."""

from __future__ import annotations

import itertools
import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "my-bucket"
DATASET = "my_dataset"
_FILES = 2
_ROWS_A_FILE = 10


def seed(project: str) -> None:
    """Fill the stand-ins that ``STORAGE_EMULATOR_HOST`` and ``BIGQUERY_EMULATOR_HOST`` name.

    ``gs://my-bucket/requests.jsonl``, ``gs://my-bucket/requests/*.jsonl`` and, with the same requests, the
    table ``my_dataset.requests``.
    """
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    rows = list(itertools.islice(requests(), _FILES * _ROWS_A_FILE))
    with storage.Client(project, AnonymousCredentials()) as client:  # type: ignore[no-untyped-call]
        bucket = client.create_bucket(BUCKET)
        for number in range(_FILES):
            lines = _lines(rows[number::_FILES])
            bucket.blob(f"requests/part-{number}.jsonl").upload_from_string(lines)
        bucket.blob("requests.jsonl").upload_from_string(_lines(rows))
    with bigquery.Client(project, AnonymousCredentials()) as client:  # type: ignore[no-untyped-call]
        client.create_dataset(DATASET)
        schema = [bigquery.SchemaField("key", "STRING"), bigquery.SchemaField("request", "JSON")]
        config = bigquery.LoadJobConfig(schema=schema)
        client.load_table_from_json(rows, f"{project}.{DATASET}.requests", job_config=config).result()


def requests() -> Iterator[dict[str, Any]]:
    """Yield a request for each installed distribution, about the text it says of itself."""
    about = {found.metadata["Name"]: found.metadata.get("Summary") for found in metadata.distributions()}
    for name, summary in sorted(about.items()):
        prompt = f"Who needs this Python package, in one sentence? {name}: {summary}"
        yield {
            "key": f"dist-{name.lower()}",
            "request": {"contents": [{"role": "user", "parts": [{"text": prompt}]}]},
        }


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
