"""What the hook does with the SDK beside calling its methods: resources as the service sends them; quiet."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_gemini_batch.exceptions import JobNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from google import genai

_ours = threading.local()


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not getattr(_ours, "requesting", False)


@contextmanager
def without_request_lines() -> Iterator[None]:
    """Keep the transport from logging a line a request: a job of four days is looked at 5,000 times."""
    for transport in ("httpx", "httpx2"):
        logging.getLogger(transport).addFilter(_is_not_ours)
    _ours.requesting = True
    try:
        yield
    finally:
        _ours.requesting = False


def source(uris: Sequence[str]) -> Any:
    """Return the ``BatchJobSource`` of a job's input."""
    from google.genai import types

    if uris[0].startswith("bq://"):
        return types.BatchJobSource(format="bigquery", bigquery_uri=uris[0])
    # A bare list would be taken for inlined requests.
    return types.BatchJobSource(format="jsonl", gcs_uri=list(uris))


def get_resource(client: genai.Client, path: str, query: Mapping[str, Any]) -> dict[str, Any]:
    """GET a resource as the service sends it.

    ``client.batches.get`` drops ``labels``, ``partialFailures`` and ``bigqueryOutputDataset``, and raises a
    validation error on a job whose ``error`` has ``details``: just when its message is needed most.
    """
    if query:
        path = f"{path}?{urlencode(query)}"
    body = client._api_client.request("get", path, {}).body
    resource: dict[str, Any] = json.loads(body) if body else {}
    if not resource and not query:
        raise JobNotFoundError(404, "NOT_FOUND", f"{path} has an empty description")
    return resource
