"""What the hook needs from google-genai that its public methods do not offer.

The only module that uses a private attribute of the SDK, ``Client._api_client``. ``client.batches.get`` drops
``labels``, ``partialFailures`` and ``bigqueryOutputDataset``, and raises a validation error on a job whose
``error`` has ``details``, which is when its message matters most; ``client.models.count_tokens`` takes typed
contents, not a request as it stands in an input line. ``tests/hooks/test_sdk.py`` fails if an SDK release
removes what is used here.
"""

from __future__ import annotations

import json
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_gemini_batch.exceptions import JobNotFoundError, UnreadableResponseError
from airflow_gemini_batch.resource import as_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from google import genai

_this_thread = threading.local()


@contextmanager
def without_request_logging() -> Iterator[None]:
    """Suppress the transport's log line per request: a job that runs for days is polled 5,000 times."""
    for transport in ("httpx", "httpx2"):
        logging.getLogger(transport).addFilter(_is_not_ours)
    _this_thread.is_requesting = True
    try:
        yield
    finally:
        _this_thread.is_requesting = False


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not getattr(_this_thread, "is_requesting", False)


def batch_job_source(uris: Sequence[str]) -> Any:
    """Return the SDK's ``BatchJobSource`` for the input URIs of a job."""
    from google.genai import types

    if uris[0].startswith("bq://"):
        return types.BatchJobSource(format="bigquery", bigquery_uri=uris[0])
    # The SDK treats a plain list as inlined requests.
    return types.BatchJobSource(format="jsonl", gcs_uri=list(uris))


def get_resource(client: genai.Client, path: str, query: Mapping[str, Any]) -> dict[str, Any]:
    """GET a resource, or a page of a list, as the service sends it.

    :raises JobNotFoundError: the service returned an empty resource
    :raises UnreadableResponseError: the response is not a JSON object
    """
    resource = _request(client, "get", f"{path}?{urlencode(query)}" if query else path, {})
    if not resource and not query:
        raise JobNotFoundError(404, "NOT_FOUND", f"{path} is empty")
    return resource


def count_tokens(client: genai.Client, model: str, request: Mapping[str, Any]) -> int:
    """Count the tokens of a ``GenerateContentRequest``; ``model`` is a resource name."""
    total = _request(client, "post", f"{model}:countTokens", request).get("totalTokens")
    count = 0 if total is None else as_count(total)
    if count is None:
        raise UnreadableResponseError(f"a count of tokens that is no number ({str(total)[:40]!r})")
    return count


def _request(client: genai.Client, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    content = client._api_client.request(method, path, dict(body)).body or ""
    try:
        resource = json.loads(content) if content else {}
    except (ValueError, RecursionError) as error:
        # ValueError is also raised for a number of more than 4,300 digits.
        raise UnreadableResponseError(
            f"{len(content):,} characters that are not valid JSON ({type(error).__name__})"
        ) from error
    if not isinstance(resource, dict):
        raise UnreadableResponseError(f"JSON that is not an object, but {type(resource).__name__}")
    return resource
