"""One row of a job: from the line or table row that went in to the one that comes out."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.answers.prompt import elements
from airflow_gemini_batch.emulator.answers.response import Plan, RowError, answer, check_request
from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.emulator.running.job_store import rfc3339, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_gemini_batch.emulator.protocol.errors import Violation

# As the service writes requests and responses: members sorted, text as it is.
_write = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_write_name = lru_cache(maxsize=4096)(_write)
_REMEMBERED = 256
# How the service begins the status of a row that failed.
BAD_REQUEST = ("Bad Request", 400, "INVALID_ARGUMENT")
TOO_MANY_REQUESTS = ("Too Many Requests", 429, "RESOURCE_EXHAUSTED")
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
class Answered:
    """What an earlier job has made of a row.

    :param status: empty for a row that succeeded
    :param response: the parsed response
    """

    status: str
    response: Any
    processed: str | None

    @property
    def is_good(self) -> bool:
        """Whether there is an answer, so that the row need not be asked again."""
        return not self.status and isinstance(self.response, dict) and bool(self.response)

    @classmethod
    def take(cls, fields: dict[str, Any]) -> Answered | None:
        """Take it out of what stands beside a request, if that was written by a job.

        That a job goes on with the output of another one, asks what failed and copies the rest, is what
        Google's pages say. It is documented, not captured: that keys survive, and how a row that failed is
        told, are our guesses.
        """
        if "status" not in fields or not fields.keys() & {"response", "processed_time"}:
            return None
        status, response = fields.pop("status"), fields.pop("response", None)
        if isinstance(response, str):  # A column of text.
            try:
                response = json.loads(response)
            except ValueError:
                response = None
        return cls(status or "", response, fields.pop("processed_time", None))


@dataclass(frozen=True)
class InputRow:
    """A row of the input.

    :param fields: what stands beside the request: members of the line, columns of the table
    :param request: the parsed request; None when a table row has none that parses
    :param column: what the table has in its column ``request``, to be written to the output unchanged
    :param answered: what an earlier job has made of it, where the input is the output of one
    """

    fields: Mapping[str, Any]
    request: Any
    column: Any = None
    answered: Answered | None = None


@dataclass(frozen=True)
class OutputRow:
    """A row of the output.

    :param request: JSON of the request as the service echoes it
    :param status: empty for a row that succeeded
    :param response: JSON of the response; None for a row that failed
    """

    row: InputRow
    request: str
    status: str
    response: str | None
    processed: str


class RowProcessor:
    """Answers rows; every row passes ``process``.

    :param model: id of the model
    :param seed: another seed gives other answers
    """

    def __init__(self, model: str, seed: int, habits: Habits) -> None:
        self._model = model
        self._seed = seed
        self._habits = habits
        self._discovery = Discovery.load("aiplatform", "v1beta1")
        self._schema = self._discovery.schema_named("GenerateContentRequest")
        # What many rows have in common, by its text.
        self._checked: dict[str, Sequence[Violation]] = {}
        self._plans: dict[str, Plan] = {}

    def process(self, row: InputRow) -> OutputRow:
        """Answer one row."""
        now = utc_now()
        response: str | None = None
        refusal: str | None = None
        request = row.request if isinstance(row.request, dict) else {}
        texts = {name: _write(value) for name, value in sorted(request.items())}
        try:
            self._check(row.request, texts)
            plan = self._plan(request, texts)
            response = _write(answer(request, plan, self._digest(texts), self._model, rfc3339(now)))
        except RowError as error:
            refusal = error.message
        if self._habits.adds_nulls and "contents" in request:
            texts["contents"] = _write(_with_nulls(request["contents"]))
        echo = _object(texts) if request else _write(row.request)
        output = OutputRow(row, echo, "", response, now.isoformat(timespec="milliseconds"))
        return failed(output, *BAD_REQUEST, refusal) if refusal is not None else output

    def _digest(self, texts: Mapping[str, str]) -> bytes:
        """Hash a request so that neither the order of members nor nulls make a difference."""
        text = _object(texts)
        if "null" in text:
            text = _write(_without_nulls(json.loads(text)))
        return hashlib.sha256(f"{self._seed}\0{text}".encode("utf-8", "replace")).digest()

    def _check(self, request: Any, texts: Mapping[str, str]) -> None:
        found: list[Violation] = []
        if isinstance(request, dict):
            for name, text in texts.items():
                found.extend(self._check_member(name, request[name], text))
        else:
            found.extend(self._discovery.violations(self._schema, request))
        if found:
            raise RowError("\n".join(violation.description for violation in found))
        check_request(request)

    def _plan(self, request: Mapping[str, Any], texts: Mapping[str, str]) -> Plan:
        name = "generationConfig" if "generationConfig" in request else "generation_config"
        text = texts.get(name, "")
        if text not in self._plans:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            self._plans[text] = Plan.of(request.get(name))
        return self._plans[text]

    def _check_member(self, name: str, value: Any, text: str) -> Sequence[Violation]:
        """Check one member; what all rows have in common, such as the response schema, is checked once."""
        if name == "contents":
            return self._discovery.violations(self._schema, {name: value})
        key = f"{name}:{text}"
        if key not in self._checked:
            if len(self._checked) >= _REMEMBERED:
                self._checked.clear()
            self._checked[key] = self._discovery.violations(self._schema, {name: value})
        return self._checked[key]


def coerced(value: Any) -> Any:
    """Return a string that looks like a number as the number, anything else as it is."""
    if isinstance(value, str) and _NUMBER.match(value):
        return float(value) if "." in value else int(value)
    return value


def copied(row: InputRow) -> OutputRow | None:
    """Return a row as an earlier job has answered it, unless it must be asked."""
    earlier = row.answered
    if not (earlier and earlier.is_good):
        return None
    processed = earlier.processed or utc_now().isoformat(timespec="milliseconds")
    return OutputRow(row, _write(row.request), "", _write(earlier.response), processed)


def failed(output: OutputRow, words: str, code: int, status: str, message: str) -> OutputRow:
    """Return a row as one that failed, in the form of the service: words, then JSON."""
    details = {"error": {"code": code, "message": message, "status": status}}
    return replace(output, status=f"{words}: {json.dumps(details)}", response=None)


def prediction_line(output: OutputRow) -> bytes:
    """Write a row as a line of ``predictions.jsonl``."""
    return row_line(
        {
            **{name: _write(value) for name, value in output.row.fields.items()},
            "request": output.request,
            "status": _write(output.status),
            "response": output.response or "{}",
            "processed_time": _write(output.processed),
        }
    )


def row_line(members: Mapping[str, str]) -> bytes:
    """Write a line from the JSON of its members."""
    return f"{_object(members)}\n".encode("utf-8", "replace")


def _object(members: Mapping[str, str]) -> str:
    return "{" + ",".join([f"{_write_name(name)}:{text}" for name, text in members.items()]) + "}"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _with_nulls(contents: Any) -> Any:
    """Add the nulls that the import leaves in the parts; the input is not changed."""
    if not isinstance(contents, list):
        return contents
    return [
        {**content, "parts": [_part_with_nulls(part) for part in elements(content["parts"])]}
        if isinstance(content, dict) and isinstance(content.get("parts"), list)
        else content
        for content in contents
    ]


def _part_with_nulls(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {**({} if "file_data" in part else {"fileData": None}), "text": None, **part}
