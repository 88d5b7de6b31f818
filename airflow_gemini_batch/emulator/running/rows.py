"""One row of a job: from the input line or table row to the output row."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.answers.embedding import check_embedding, embedding
from airflow_gemini_batch.emulator.answers.response import Plan, RowError, answer, check_request
from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.emulator.running.job_store import rfc3339, utc_now
from airflow_gemini_batch.gcp.discovery import elements
from airflow_gemini_batch.models import is_embedding_model
from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.model_rules import PlaceRule, place_rules, problems
from airflow_gemini_batch.requests.checking.value_tests import spellings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Requests and responses as the service writes them: members sorted, text not escaped.
_write = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_write_name = lru_cache(maxsize=4096)(_write)
_CACHE_SIZE = 256
# How the status of a failed row starts; also its HTTP code and its name.
BAD_REQUEST = ("Bad Request", 400, "INVALID_ARGUMENT")
TOO_MANY_REQUESTS = ("Too Many Requests", 429, "RESOURCE_EXHAUSTED")
_NUMBER = re.compile(r"^[+-]?\d+(\.\d+)?$")


@dataclass(frozen=True)
class Habits:
    """Changes that the service makes to rows; each was seen in some captured outputs, but not in all.

    :param shuffles: output rows have a different order than input rows
    :param adds_nulls: ``"fileData": null, "text": null`` appear in the parts of the echoed request
    :param passes_fields: members next to ``request``, such as ``key``, come back
    :param coerces_numbers: strings among them that look like numbers become numbers: ``"000000"`` → 0
    """

    shuffles: bool = True
    adds_nulls: bool = True
    passes_fields: bool = True
    coerces_numbers: bool = True


@dataclass(frozen=True)
class Answered:
    """The result of a row in an earlier job.

    :param status: empty for a row that succeeded
    :param response: the parsed response
    """

    status: str
    response: Any
    processed: str | None

    @property
    def is_good(self) -> bool:
        """Whether the row has a response, so that it need not be processed again."""
        return not self.status and isinstance(self.response, dict) and bool(self.response)

    @classmethod
    def take(cls, fields: dict[str, Any]) -> Answered | None:
        """Remove the result from the members next to a request, if an earlier job wrote them.

        Google's documentation says that a job can resume from the output of another one: it processes the
        failed rows and copies the others. No real run was captured: that keys survive, and how a failed row
        is recognized, are our assumptions.
        """
        if "status" not in fields or not fields.keys() & {"response", "processed_time"}:
            return None
        status, response = fields.pop("status"), fields.pop("response", None)
        if isinstance(response, str):  # From a STRING column.
            try:
                response = json.loads(response)
            except ValueError:
                response = None
        return cls(status or "", response, fields.pop("processed_time", None))


@dataclass(frozen=True)
class InputRow:
    """A row of the input.

    :param fields: members of the line or columns of the table, except the request
    :param request: the parsed request; None when that of a table row does not parse
    :param column: value of the table's column ``request``, copied to the output unchanged
    :param answered: the result of an earlier job, if the input is its output
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
    :param is_embedding: whether the line of a good row has neither ``status`` nor ``processed_time``
    """

    row: InputRow
    request: str
    status: str
    response: str | None
    processed: str
    is_embedding: bool = False


class RowProcessor:
    """Answers rows.

    :param model: id of the model
    :param seed: changes the answers
    """

    def __init__(self, model: str, seed: int, habits: Habits) -> None:
        self._model = model
        self._seed = seed
        self._habits = habits
        self._discovery = Discovery.load("aiplatform", "v1beta1")
        self._are_embeddings = bool(is_embedding_model(model))
        kind = "EmbedContentRequest" if self._are_embeddings else "GenerateContentRequest"
        self._schema = self._discovery.schema_named(kind)
        # By the member of a request that a rule is about, in both spellings.
        self._rules: dict[str, list[PlaceRule]] = {}
        for rule in place_rules(model):
            if rule.rule.level is Level.ROW:
                for name in spellings(rule.steps[0][0]):
                    self._rules.setdefault(name, []).append(rule)
        # Caches for what many rows have in common, by its JSON.
        self._checked: dict[str, Sequence[str]] = {}
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
            response = _write(self._answer(request, texts, rfc3339(now)))
        except RowError as error:
            refusal = error.message
        if self._habits.adds_nulls and "contents" in request:
            texts["contents"] = _write(_with_nulls(request["contents"]))
        echo = _object(texts) if request else _write(row.request)
        time = now.isoformat(timespec="milliseconds")
        output = OutputRow(row, echo, "", response, time, self._are_embeddings)
        return failed(output, *BAD_REQUEST, refusal) if refusal is not None else output

    def _answer(self, request: Mapping[str, Any], texts: Mapping[str, str], now: str) -> dict[str, Any]:
        if self._are_embeddings:
            # Both ways to count were published; each of our two models has one of them.
            return embedding(request, self._seed, counts_only_tokens=self._model.endswith("-001"))
        return answer(request, self._plan(request, texts), self._digest(texts), self._model, now)

    def _digest(self, texts: Mapping[str, str]) -> bytes:
        """Hash a request, regardless of the order of its members and of nulls."""
        text = _object(texts)
        if "null" in text:
            text = _write(_without_nulls(json.loads(text)))
        return hashlib.sha256(f"{self._seed}\0{text}".encode("utf-8", "replace")).digest()

    def _check(self, request: Any, texts: Mapping[str, str]) -> None:
        found: list[str] = []
        if isinstance(request, dict):
            for name, text in texts.items():
                found.extend(self._check_member(name, request[name], text))
        else:
            found.extend(each.description for each in self._discovery.violations(self._schema, request))
        if found:
            raise RowError("\n".join(found))
        if self._are_embeddings:
            check_embedding(request)
        else:
            check_request(request)

    def _plan(self, request: Mapping[str, Any], texts: Mapping[str, str]) -> Plan:
        name = "generationConfig" if "generationConfig" in request else "generation_config"
        text = texts.get(name, "")
        if text not in self._plans:
            if len(self._plans) >= _CACHE_SIZE:
                self._plans.clear()
            self._plans[text] = Plan.of(request.get(name))
        return self._plans[text]

    def _check_member(self, name: str, value: Any, text: str) -> Sequence[str]:
        """Check one member; those that many rows share, such as the response schema, are checked once."""
        if name in ("contents", "content"):
            return self._problems(name, value)
        key = f"{name}:{text}"
        if key not in self._checked:
            if len(self._checked) >= _CACHE_SIZE:
                self._checked.clear()
            self._checked[key] = self._problems(name, value)
        return self._checked[key]

    def _problems(self, name: str, value: Any) -> list[str]:
        """Return what is wrong with a member: its fields and types, else what the model refuses."""
        message = {name: value}
        wrong = [each.description for each in self._discovery.violations(self._schema, message)]
        return wrong or [each.message for each in problems(message, self._rules.get(name, ()))]


def coerced(value: Any) -> Any:
    """Convert a string that looks like a number to a number; return any other value unchanged."""
    if isinstance(value, str) and _NUMBER.match(value):
        return float(value) if "." in value else int(value)
    return value


def copied(row: InputRow) -> OutputRow | None:
    """Return the row with its result from an earlier job; None if it must be processed."""
    earlier = row.answered
    if not (earlier and earlier.is_good):
        return None
    processed = earlier.processed or utc_now().isoformat(timespec="milliseconds")
    return OutputRow(row, _write(row.request), "", _write(earlier.response), processed)


def failed(output: OutputRow, words: str, code: int, status: str, message: str) -> OutputRow:
    """Return the row as failed; the status has the format of the service: words, then JSON."""
    details = {"error": {"code": code, "message": message, "status": status}}
    return replace(output, status=f"{words}: {json.dumps(details)}", response=None)


def prediction_line(output: OutputRow) -> bytes:
    """Return a row as a line of ``predictions.jsonl``."""
    fields = {name: _write(value) for name, value in output.row.fields.items()}
    if output.is_embedding and output.response:
        return row_line({**fields, "request": output.request, "response": output.response})
    return row_line(
        {
            **fields,
            "request": output.request,
            "status": _write(output.status),
            "response": output.response or "{}",
            "processed_time": _write(output.processed),
        }
    )


def row_line(members: Mapping[str, str]) -> bytes:
    """Return a line, given the JSON of each member."""
    return f"{_object(members)}\n".encode("utf-8", "replace")


def _object(members: Mapping[str, str]) -> str:
    return "{" + ",".join([f"{_write_name(name)}:{text}" for name, text in members.items()]) + "}"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _with_nulls(contents: Any) -> Any:
    """Return the contents with the nulls that the import adds to parts; the input is not changed."""
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
