"""Calls to an emulator without an SDK, and a check of its responses."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.protocol.schema import Discovery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_gemini_batch.emulator.server import RecordedRequest

PROJECT = "local-project"
PARENT = f"projects/{PROJECT}/locations/global"
_ERROR_FIELDS = {"code", "message", "status", "details"}


def violations_of_answers(requests: Sequence[RecordedRequest]) -> list[str]:
    """Return the differences between responses and the discovery document."""
    found = []
    for request in requests:
        if request.path == "/token":
            continue
        if request.status != 200:
            error = request.answer["error"]
            if (
                set(request.answer) != {"error"}
                or set(error) - _ERROR_FIELDS
                or error["code"] != request.status
            ):
                found.append(f"{request.method} {request.path}: {request.answer}")
            continue
        discovery = Discovery.load("aiplatform", request.path.split("/")[1])
        method = discovery.method(request.method, request.path)
        assert method, request.path
        assert method.response
        problems = discovery.violations(method.response, request.answer, strict=True)
        found.extend(f"{method.id}: {problem.description}" for problem in problems)
    return found


@dataclass(frozen=True)
class Http:
    """An HTTP client without an SDK."""

    url: str
    version: str = "v1"

    def __call__(
        self,
        method: str,
        path: str = "",
        body: Any = None,
        *,
        token: str | None = "any",  # noqa: S107
        **query: Any,
    ) -> tuple[int, Any]:
        """Call the batchPredictionJobs of ``PARENT``, or another path; return status and JSON."""
        url = self.url + (path or f"/{self.version}/{PARENT}/batchPredictionJobs")
        if query:
            url += "?" + urllib.parse.urlencode(query)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, content, method=method)  # noqa: S310
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request) as response:  # noqa: S310
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def job_body(
    source: str = "gs://bucket/in.jsonl", destination: str = "gs://bucket/out", **fields: Any
) -> dict[str, Any]:
    """Return the body of a create call."""
    return {
        "displayName": "a job",
        "model": "publishers/google/models/gemini-3.5-flash",
        "inputConfig": {"instancesFormat": "bigquery", "bigquerySource": {"inputUri": source}}
        if source.startswith("bq://")
        else {"instancesFormat": "jsonl", "gcsSource": {"uris": [source]}},
        "outputConfig": {"predictionsFormat": "bigquery", "bigqueryDestination": {"outputUri": destination}}
        if destination.startswith("bq://")
        else {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": destination}},
        **fields,
    }
