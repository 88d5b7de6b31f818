"""Google's discovery documents: the fields of an API's messages, and a check of JSON against them.

The documents are installed with ``google-api-python-client``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CAPITAL = re.compile(r"(?<!^)([A-Z])")
# No format has more digits, and Python refuses to parse thousands of them.
_INTEGER = re.compile(r"-?[0-9]{1,40}")
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
_LIMITS = {"int32": (-(2**31), 2**31), "uint32": (0, 2**32), "int64": (-(2**63), 2**63), "uint64": (0, 2**64)}


def load_document(api: str, version: str) -> dict[str, Any]:
    """Read the document of an API, for example ``aiplatform`` ``v1``; takes about 50 ms.

    :raises ModuleNotFoundError: google-api-python-client is not installed
    """
    package = find_spec("googleapiclient")
    if not package or not package.origin:
        raise ModuleNotFoundError(
            "google-api-python-client is not installed. Its discovery documents are required: "
            "pip install google-api-python-client"
        )
    path = Path(package.origin).parent / "discovery_cache" / "documents" / f"{api}.{version}.json"
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


@lru_cache(maxsize=4096)
def snake_case(name: str) -> str:
    """Return the protobuf name of a JSON field: ``generationConfig`` → ``generation_config``."""
    return _CAPITAL.sub(r"_\1", name).lower()


def member(message: Any, name: str) -> Any:
    """Return a field of a message by its camelCase name; the message may spell it either way."""
    if not isinstance(message, dict):
        return None
    value = message.get(name)
    return message.get(snake_case(name)) if value is None else value


def elements(value: Any) -> list[Any]:
    """Return a repeated field as a list; Google's APIs accept a single element instead of a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


class Mismatch(Enum):
    """How a value differs from its schema."""

    UNKNOWN_FIELD = auto()
    NOT_REPEATED = auto()
    """The value is a list and the field is not repeated."""
    WRONG_VALUE = auto()
    """The value has the wrong type or is out of range."""


@dataclass(frozen=True)
class Violation:
    """One part of a message that its schema does not allow.

    :param field: path in snake_case, such as ``generation_config.top_k``; for an unknown field or a list, the
        path of the message that has it
    :param path: keys and list indexes that lead to the value, as the message spells them
    :param schema: name of the schema of the message that has an unknown field; otherwise empty
    :param message: the service's error message. It never quotes the value
    """

    mismatch: Mismatch
    field: str
    path: tuple[str | int, ...]
    schema: str
    message: str
    value: Any


class Schemas:
    """The message schemas of one API version, by name.

    :param schemas: ``schemas`` of the discovery document
    """

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self._fields: dict[str, dict[str, tuple[str, Mapping[str, Any]]]] = {}

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        schema: Mapping[str, Any] = self._schemas[name]
        return schema

    def __iter__(self) -> Iterator[str]:
        return iter(self._schemas)

    def __contains__(self, name: object) -> bool:
        return name in self._schemas

    def reachable_from(self, *names: str) -> Schemas:
        """Return only the schemas of these names and those they refer to, directly or indirectly."""
        found: dict[str, Any] = {}
        pending = [*names]
        while pending:
            each = pending.pop()
            if each not in found:
                found[each] = self._schemas[each]
                pending.extend(_references(self._schemas[each]))
        return Schemas(found)

    def fields(self, schema: str) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Return the fields of a message by camelCase and by snake_case name: snake_case name and schema."""
        fields = self._fields.get(schema)
        if fields is None:
            fields = {}
            for name, spec in self._schemas[schema].get("properties", {}).items():
                fields[name] = fields[snake_case(name)] = (snake_case(name), spec)
            self._fields[schema] = fields
        return fields

    def violations(self, schema: str, value: Any, root: str = "", *, strict: bool = False) -> list[Violation]:
        """Check a value against a schema.

        :param root: path of the value itself in the error messages, such as ``batch_prediction_job``
        :param strict: False: accept what the service accepts in requests: snake_case names, numbers in
            quotes, null even for unknown names, a single element instead of a list. True: accept only what it
            writes in responses
        """
        check = _Check(self, root, strict)
        check.message(schema, value)
        return check.found


class _Check:
    """One pass over one value."""

    def __init__(self, schemas: Schemas, root: str, strict: bool) -> None:
        self.found: list[Violation] = []
        self._schemas = schemas
        self._root = root
        self._strict = strict
        # (part of the field path, part of the JSON path) for each level. Joined only for a violation.
        self._steps: list[tuple[str | int, str | int | None]] = []

    def message(self, schema: str, value: Any) -> None:
        spec = self._schemas[schema]
        if spec.get("type") == "any":
            return
        if spec.get("additionalProperties"):
            self._map(spec, value)
        elif isinstance(value, dict):
            self._members(schema, value)
        else:
            self._wrong_value(f"type.googleapis.com/{schema}", value)

    def _members(self, schema: str, message: Mapping[str, Any]) -> None:
        fields = self._schemas.fields(schema)
        for name, value in message.items():
            known = fields.get(name)
            if value is None and not self._strict:
                continue
            if known is None or (self._strict and "_" in name):
                self._unparsed(Mismatch.UNKNOWN_FIELD, schema, name, value, "Cannot find field.")
            elif isinstance(value, list) and known[1].get("type") not in ("array", "any"):
                problem = "Proto field is not repeating, cannot start list."
                self._unparsed(Mismatch.NOT_REPEATED, "", name, value, problem)
            else:
                self._value(known[1], value, known[0], name)

    def _value(self, spec: Mapping[str, Any], value: Any, field: str | int, key: str | int | None) -> None:
        self._steps.append((field, key))
        if "$ref" in spec:
            self.message(spec["$ref"], value)
        elif spec.get("type") == "object":
            self._map(spec, value)
        elif spec.get("type") == "array":
            self._list(spec, value)
        elif expected := _expected_type(spec, value, self._strict):
            self._wrong_value(expected, value)
        self._steps.pop()

    def _list(self, spec: Mapping[str, Any], value: Any) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._value(spec["items"], item, index, index)
        elif self._strict:
            self._wrong_value("list", value)
        else:
            self._value(spec["items"], value, 0, None)

    def _map(self, spec: Mapping[str, Any], value: Any) -> None:
        if not isinstance(value, dict):
            self._wrong_value("Map", value)
            return
        values = spec.get("additionalProperties") or {"type": "any"}
        for key, item in value.items():
            self._value(values, item, f"[{key}]", key)

    def _unparsed(self, mismatch: Mismatch, schema: str, name: str, value: Any, problem: str) -> None:
        message = f'Invalid JSON payload received. Unknown name "{name}"{self._at}: {problem}'
        self.found.append(Violation(mismatch, self._field, (*self._path, name), schema, message, value))

    def _wrong_value(self, expected: str, value: Any) -> None:
        message = f"Invalid value{self._at} ({expected})"
        self.found.append(Violation(Mismatch.WRONG_VALUE, self._field, self._path, "", message, value))

    @property
    def _at(self) -> str:
        return f" at '{field}'" if (field := self._field) else ""

    @property
    def _field(self) -> str:
        path = self._root
        for part, _ in self._steps:
            if isinstance(part, int):
                path += f"[{part}]"
            else:
                path += f".{part}" if path and not part.startswith("[") else part
        return path

    @property
    def _path(self) -> tuple[str | int, ...]:
        return tuple(key for _, key in self._steps if key is not None)


def _references(spec: Any) -> Iterator[str]:
    if isinstance(spec, dict):
        if isinstance(spec.get("$ref"), str):
            yield spec["$ref"]
        for item in spec.values():
            yield from _references(item)


def _expected_type(spec: Mapping[str, Any], value: Any, strict: bool) -> str | None:
    """Return the service's name of the type that a scalar should have, None if the value has it."""
    kind, form = spec.get("type"), str(spec.get("format", ""))
    if form in _LIMITS:
        fits = _is_integer(value, form)
        if strict:
            fits = fits and type(value) is (str if kind == "string" else int)
        return None if fits else f"TYPE_{form.upper()}"
    if kind == "number":
        return None if _is_number(value, strict) else f"TYPE_{form.upper() or 'DOUBLE'}"
    if kind == "boolean":
        return None if isinstance(value, bool) else "TYPE_BOOL"
    return _expected_string(spec, value, strict) if kind == "string" else None


def _expected_string(spec: Mapping[str, Any], value: Any, strict: bool) -> str | None:
    if not isinstance(value, str):
        return "TYPE_STRING"
    if "enum" in spec and value not in spec["enum"] and (strict or value.upper() not in spec["enum"]):
        return "TYPE_ENUM"
    if strict and spec.get("format") == "google-datetime" and not _TIME.match(value):
        return "type.googleapis.com/google.protobuf.Timestamp"
    return None


def _is_integer(value: Any, form: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        return False
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        return False
    if isinstance(value, float) and not value.is_integer():
        return False
    low, high = _LIMITS[form]
    return low <= int(value) < high


def _is_number(value: Any, strict: bool) -> bool:
    if isinstance(value, str) and not strict:
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)
