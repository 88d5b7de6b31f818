"""One row of a job: from the line or table row that went in to the one that comes out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.answers import RowError, answer, check_request
from airflow_gemini_batch.emulator.prompt import elements, member
from airflow_gemini_batch.emulator.schema import Discovery
from airflow_gemini_batch.emulator.state import rfc3339, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER = re.compile(r"^[+-]?\d+(\.\d+)?$")


@dataclass(frozen=True)
class Habits:
    """What the service was seen to do to rows, each of which some captures show and others do not.

    :param shuffles: the output comes in another order than the input
    :param adds_nulls: ``"fileData": null, "text": null`` appear in the parts of the echoed request
    :param passes_fields: what stands beside ``request`` in a line, such as ``key``, comes back
    :param coerces_numbers: strings there that look like numbers come back as numbers: ``"000000"`` → 0
    """

    shuffles: bool = True
    adds_nulls: bool = True
    passes_fields: bool = True
    coerces_numbers: bool = True


@dataclass(frozen=True)
class InputRow:
    """A row of the input.

    :param fields: what stands beside the request: members of the line, columns of the table
    :param request: the parsed request; None when a table row has none that parses
    :param column: what the table has in its column ``request``, to be written to the output unchanged
    """

    fields: Mapping[str, Any]
    request: Any
    column: Any = None


@dataclass(frozen=True)
class OutputRow:
    """A row of the output.

    :param request: the request as the service echoes it
    :param status: empty for a row that succeeded
    :param response: None for a row that failed
    """

    row: InputRow
    request: Any
    status: str
    response: Mapping[str, Any] | None
    processed: str


class RowProcessor:
    """Answers rows; every row passes ``process``."""

    def __init__(self, model: str, seed: int, habits: Habits) -> None:
        self._model = model
        self._seed = seed
        self._habits = habits
        self._discovery = Discovery.load("aiplatform", "v1beta1")
        self._schema = self._discovery.schema_named("GenerateContentRequest")

    def process(self, row: InputRow) -> OutputRow:
        """Answer one row."""
        now = utc_now()
        response, status = None, ""
        try:
            self._check(row.request)
            response = answer(row.request, self._model, self._seed, rfc3339(now))
        except RowError as error:
            details = {"code": 400, "message": error.message, "status": "INVALID_ARGUMENT"}
            status = f"Bad Request: {json.dumps({'error': details})}"
        request = _with_nulls(row.request) if self._habits.adds_nulls else row.request
        return OutputRow(row, request, status, response, now.isoformat(timespec="milliseconds"))

    def _check(self, request: Any) -> None:
        violations = self._discovery.violations(self._schema, request)
        if violations:
            raise RowError("\n".join(violation.description for violation in violations))
        check_request(request)


def coerced(value: Any) -> Any:
    """Return a string that looks like a number as the number, anything else as it is."""
    if isinstance(value, str) and _NUMBER.match(value):
        return float(value) if "." in value else int(value)
    return value


def prediction_line(output: OutputRow) -> bytes:
    """Write a row as a line of ``predictions.jsonl``."""
    members = {
        **output.row.fields,
        "request": output.request,
        "status": output.status,
        "response": output.response or {},
        "processed_time": output.processed,
    }
    # The service sorts the members of the request and the response, but not those of the line.
    texts = [
        f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(',', ':'))}"
        for name, value in members.items()
    ]
    return ("{" + ",".join(texts) + "}\n").encode("utf-8", "replace")


def _with_nulls(request: Any) -> Any:
    """Add the nulls that the import leaves in the parts; the input is not changed."""
    contents = member(request, "contents")
    if not isinstance(contents, list):
        return request
    echoed = [
        {**content, "parts": [_part_with_nulls(part) for part in elements(content["parts"])]}
        if isinstance(content, dict) and isinstance(content.get("parts"), list)
        else content
        for content in contents
    ]
    return {**request, "contents": echoed}


def _part_with_nulls(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {**({} if "file_data" in part else {"fileData": None}), "text": None, **part}
