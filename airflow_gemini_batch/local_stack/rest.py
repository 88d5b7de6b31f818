"""REST calls to the stack without an SDK, whose import would delay the command line."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_gemini_batch.local_stack.stack import StackAddresses


def call(
    url: str, body: object = None, *, raw: bytes | None = None, token: str | None = None
) -> dict[str, Any]:
    """POST ``body`` as JSON, or ``raw`` unchanged; GET if both are absent.

    :return: the JSON of the response
    :raises urllib.error.HTTPError: the response is an error
    """
    data = raw if body is None else json.dumps(body).encode()
    # The emulators require a token and accept any.
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token or 'any'}"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310  # always http://127.0.0.1
    # Requests to loopback must not use a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as response:
        parsed: dict[str, Any] = json.load(response)
        return parsed


def query(addresses: StackAddresses, sql: str) -> list[list[str | None]]:
    """Run SQL in the BigQuery emulator and return the rows; values are strings, as in BigQuery's JSON."""
    url = f"{addresses.bigquery_url}/bigquery/v2/projects/{addresses.project}/queries"
    response = call(url, {"query": sql, "useLegacySql": False, "timeoutMs": 60_000})
    return [[cell["v"] for cell in row["f"]] for row in response.get("rows", [])]
