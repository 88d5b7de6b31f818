"""REST calls to the stack that import no SDK: the command line answers at once."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_gemini_batch.local_stack.stack import StackAddresses


def call(
    url: str, body: object = None, *, raw: bytes | None = None, token: str | None = None
) -> dict[str, Any]:
    """POST ``body`` as JSON, or ``raw`` as it is; GET when there is neither.

    :return: the answer's JSON
    :raises urllib.error.HTTPError: when the answer is an error
    """
    data = raw if body is None else json.dumps(body).encode()
    # The stand-ins want a token and do not mind which.
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token or 'any'}"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310  # always http://127.0.0.1
    # A proxy of this machine has no business on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        parsed: dict[str, Any] = json.load(answer)
        return parsed


def query(addresses: StackAddresses, sql: str) -> list[list[str | None]]:
    """Run SQL on the BigQuery stand-in and return the rows, each value as BigQuery writes it in JSON."""
    url = f"{addresses.bigquery_url}/bigquery/v2/projects/{addresses.project}/queries"
    answer = call(url, {"query": sql, "useLegacySql": False, "timeoutMs": 60_000})
    return [[cell["v"] for cell in row["f"]] for row in answer.get("rows", [])]
