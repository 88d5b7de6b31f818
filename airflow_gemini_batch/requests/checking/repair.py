"""Rewrites lines that the import would reject. Only problems with exactly one safe fix are changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.requests.checking.findings import Findings, Level, Place, Report, Rule
from airflow_gemini_batch.requests.checking.inferred_columns import child
from airflow_gemini_batch.requests.checking.schema_repair import CannotRepairError, SchemaRepair
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_gemini_batch.requests.key_field import KeyField

REPAIRS = {
    rule.name: rule
    for rule in (
        Rule(
            "empty-google-search",
            Level.REPAIRED,
            "An empty `excludeDomains` was added, which excludes nothing.",
        ),
        Rule(
            "inline-ref",
            Level.REPAIRED,
            "`$ref` was replaced by the schema it refers to, and `$defs` was removed.",
        ),
        Rule("null-keyword", Level.REPAIRED, "The keyword, whose value was null, was removed."),
        Rule("empty-keyword", Level.REPAIRED, "The empty keyword, which has no effect, was removed."),
        Rule(
            "nullable-type",
            Level.REPAIRED,
            "The list of a type and null was replaced by `nullable: true`, in JSON Schema by `anyOf`.",
        ),
    )
}
_SEARCHES = {"googleSearch": "excludeDomains", "google_search": "exclude_domains"}
# Field, in both spellings → whether its value is a JSON Schema.
_CONFIG_SCHEMAS = {
    "responseSchema": False,
    "response_schema": False,
    "responseJsonSchema": True,
    "response_json_schema": True,
}
_FUNCTION_SCHEMAS = {
    "parameters": False,
    "parametersJsonSchema": True,
    "parameters_json_schema": True,
    "response": False,
    "responseJsonSchema": True,
    "response_json_schema": True,
}


class Repair:
    """Repairs lines one by one and records the changes.

    :param key_field: where a line has its key
    """

    def __init__(self, key_field: KeyField = DEFAULT_KEY_FIELD) -> None:
        self._key_field = key_field
        self._done = Findings()
        self._lines = 0
        self._size = 0
        self._changes: list[tuple[str, str]] = []

    def line(self, line: bytes) -> bytes:
        """Return the repaired line, or the same bytes if there was nothing to repair."""
        self._lines += 1
        self._size += len(line)
        self._changes = []
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):
            return line
        request = row.get("request") if isinstance(row, dict) else None
        if not isinstance(request, dict):
            return line
        self._request(request)
        if not self._changes:
            return line
        key = self._key_field.read(row)
        for name, path in self._changes:
            rule = REPAIRS[name]
            self._done.add(rule, path, rule.fix, [Place(self._lines, key)])
        return _encoded(row) + line[len(line.rstrip()) :]

    def report(self) -> Report:
        """Return the changes so far."""
        return self._done.report(self._lines, self._size)

    def _request(self, request: dict[str, Any]) -> None:
        for name in ("generationConfig", "generation_config"):
            if isinstance(config := request.get(name), dict):
                self._schemas(config, _CONFIG_SCHEMAS, f"$.request.{name}")
        for index, tool in _objects(request.get("tools")):
            at = f"$.request.tools[{index}]"
            for name, member in _SEARCHES.items():
                if tool.get(name) == {}:
                    tool[name] = {member: []}
                    self._changes.append(("empty-google-search", child(at, name)))
            for name in ("functionDeclarations", "function_declarations"):
                for position, function in _objects(tool.get(name)):
                    self._schemas(function, _FUNCTION_SCHEMAS, f"{at}.{name}[{position}]")

    def _schemas(self, holder: dict[str, Any], schemas: dict[str, bool], path: str) -> None:
        for name, is_json_schema in schemas.items():
            schema = holder.get(name)
            if not isinstance(schema, dict) or not schema:
                continue
            changes: list[tuple[str, str]] = []

            def changed(rule: str, at: str, changes: list[tuple[str, str]] = changes) -> None:
                changes.append((rule, at))

            repair = SchemaRepair(schema, is_json_schema=is_json_schema, changed=changed)
            try:
                holder[name] = repair.repaired(child(path, name))
            except CannotRepairError:
                continue
            self._changes.extend(changes)


def _objects(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, dict):
            yield index, item


def _encoded(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair can only be written as an escape.
        return json.dumps(row).encode()
