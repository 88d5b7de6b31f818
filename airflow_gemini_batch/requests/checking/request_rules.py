"""What the model refuses in one request: the row fails, the others run.

Fields and their types are those of the discovery document. As the service does, a check takes camelCase and
snake_case, numbers in quotes, null for no value, and one element for an array of one.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.requests.checking.findings import Level, Rule
from airflow_gemini_batch.requests.checking.inferred_columns import Problem, child
from airflow_gemini_batch.requests.request_fields import (
    REQUEST,
    RequestFields,
    elements,
    is_plain_text,
    member,
    request_fields,
    snake_case,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLES = ("user", "model")
_INTEGER = re.compile(r"-?\d+")
_LIMITS = {"int32": (-(2**31), 2**31), "uint32": (0, 2**32), "int64": (-(2**63), 2**63), "uint64": (0, 2**64)}
_OF_CONFIG = (
    *("responseSchema", "responseJsonSchema", "responseMimeType", "responseModalities", "thinkingConfig"),
    *("temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "candidateCount", "seed"),
)
_OF_REQUEST = (
    *("generationConfig", "systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent"),
    *("contents", "labels"),
)
# Under both spellings → where it belongs.
_HOMES = {
    spelling: home
    for names, home in ((_OF_CONFIG, "request.generationConfig"), (_OF_REQUEST, "request"))
    for name in names
    for spelling in (name, snake_case(name))
}
# Beside a request stands what the user likes; these are no names that a user's own value would have.
_NEVER_BESIDE = {
    spelling for name in (*_OF_CONFIG[:5], *_OF_REQUEST[:-1]) for spelling in (name, snake_case(name))
}

UNKNOWN_FIELD = Rule(
    "unknown-field", Level.ROW, "Correct the name, or leave it out; GenerateContentRequest has no such field."
)
WRONG_TYPE = Rule("wrong-type", Level.ROW, "Write a value of the type that the field has.")
INVALID_ROLE = Rule(
    "invalid-role",
    Level.ROW,
    "Use `user` or `model`; what the model should obey goes to `systemInstruction`.",
)
NO_CONTENTS = Rule("no-contents", Level.ROW, 'Ask something: `"contents": [{"role": "user", "parts": […]}]`.')
NO_PARTS = Rule("no-parts", Level.ROW, "Give each of the contents at least one part.")
NO_MIME_TYPE = Rule(
    "no-mime-type", Level.ROW, "Say what the file is: `mimeType` beside `fileUri`, such as `image/png`."
)
MISPLACED = Rule("misplaced", Level.ROW, "Move it to where it belongs.")
IGNORED_BESIDE_REQUEST = Rule(
    "ignored-beside-request", Level.RESULT, "Move it into `request`, or into `request.generationConfig`."
)


class RowRules:
    """Checks rows."""

    def __init__(self, fields: RequestFields | None = None) -> None:
        self._fields = fields or request_fields()
        self._found: list[Problem] = []

    def problems(self, row: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with a row whose ``request`` is an object."""
        self._found = []
        for name in row:
            if name in _NEVER_BESIDE:
                message = f"The service takes `{name}` beside `request` for a value to copy to the output."
                rule = replace(IGNORED_BESIDE_REQUEST, fix=f"Move it to `{_HOMES[name]}`.")
                self._found.append(Problem(rule, child("$", name), message))
        request = row["request"]
        self._message(REQUEST, request, "", "$.request")
        self._contents(request)
        return self._found

    def _contents(self, request: Mapping[str, Any]) -> None:
        contents = elements(member(request, "contents"))
        if not contents:
            message = "Unable to submit request because at least one contents field is required."
            self._found.append(Problem(NO_CONTENTS, "$.request", message))
        for index, content in enumerate(contents):
            at = f"$.request.contents[{index}]"
            if member(content, "role") not in (*_ROLES, None):
                message = "Please use a valid role: user, model."
                self._found.append(Problem(INVALID_ROLE, f"{at}.role", message))
            if not elements(member(content, "parts")):
                message = "Unable to submit request because it must have at least one parts field."
                self._found.append(Problem(NO_PARTS, at, message))
            self._files(content, at)
        self._files(member(request, "systemInstruction"), "$.request.systemInstruction")

    def _files(self, content: Any, at: str) -> None:
        for index, part in enumerate(elements(member(content, "parts"))):
            file = member(part, "fileData")
            if isinstance(file, dict) and not member(file, "mimeType"):
                message = "Unable to submit request because it has an empty mimeType parameter."
                self._found.append(Problem(NO_MIME_TYPE, f"{at}.parts[{index}].fileData", message))

    def _message(self, schema: str, value: Any, at: str, path: str) -> None:
        spec = self._fields.schemas[schema]
        if spec.get("type") == "any":
            return
        if spec.get("additionalProperties"):
            self._map(spec, value, at, path)
        elif isinstance(value, dict):
            self._members(schema, value, at, path)
        else:
            self._wrong(at, path, f"type.googleapis.com/{schema}")

    def _members(self, schema: str, value: Mapping[str, Any], at: str, path: str) -> None:
        members = self._fields.members(schema)
        for name, item in value.items():
            known, inner = members.get(name), child(path, name)
            if known is None:
                self._unknown(schema, name, at, inner)
            elif item is not None:
                field = f"{at}.{known[0]}" if at else known[0]
                if isinstance(item, list) and known[1].get("type") not in ("array", "any"):
                    problem = "Proto field is not repeating, cannot start list."
                    message = f'Invalid JSON payload received. Unknown name "{name}"{_at(at)}: {problem}'
                    self._found.append(Problem(WRONG_TYPE, inner, message))
                else:
                    self._value(known[1], item, field, inner)

    def _unknown(self, schema: str, name: str, at: str, path: str) -> None:
        message = f'Invalid JSON payload received. Unknown name "{name}"{_at(at)}: Cannot find field.'
        home = _HOMES.get(name) if schema == REQUEST or at == "generation_config" else None
        rule = UNKNOWN_FIELD
        if home:
            rule = replace(MISPLACED, fix=f"Move it to `{home}`.")
        self._found.append(Problem(rule, path, message))

    def _value(self, spec: Mapping[str, Any], value: Any, at: str, path: str) -> None:
        if "$ref" in spec:
            self._message(spec["$ref"], value, at, path)
        elif spec.get("type") == "object":
            self._map(spec, value, at, path)
        elif spec.get("type") == "array":
            if isinstance(value, list):
                for index, item in enumerate(value):
                    self._value(spec["items"], item, f"{at}[{index}]", f"{path}[{index}]")
            else:
                self._value(spec["items"], value, f"{at}[0]", path)
        elif expected := _scalar_problem(spec, value):
            self._wrong(at, path, expected)

    def _map(self, spec: Mapping[str, Any], value: Any, at: str, path: str) -> None:
        if not isinstance(value, dict):
            self._wrong(at, path, "Map")
            return
        values = spec.get("additionalProperties") or {"type": "any"}
        for name, item in value.items():
            self._value(values, item, f"{at}[{name}]", child(path, name))

    def _wrong(self, at: str, path: str, expected: str) -> None:
        self._found.append(Problem(WRONG_TYPE, path, f"Invalid value{_at(at)} ({expected})"))


def _scalar_problem(spec: Mapping[str, Any], value: Any) -> str | None:
    """Return the name of the type that was expected, or None where the value fits."""
    kind, form = spec.get("type"), str(spec.get("format", ""))
    if form in _LIMITS:
        return None if _is_integer(value, form) else f"TYPE_{form.upper()}"
    if kind == "number":
        return None if _is_number(value) else f"TYPE_{form.upper() or 'DOUBLE'}"
    if kind == "boolean":
        return None if isinstance(value, bool) else "TYPE_BOOL"
    if kind != "string":
        return None
    if not isinstance(value, str):
        return "TYPE_STRING"
    return None if is_plain_text(spec) or value.upper() in spec["enum"] else "TYPE_ENUM"


def _is_integer(value: Any, form: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        return False
    if isinstance(value, float) and not value.is_integer():
        return False
    low, high = _LIMITS[form]
    return low <= int(value) < high


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _at(path: str) -> str:
    return f" at '{path}'" if path else ""
