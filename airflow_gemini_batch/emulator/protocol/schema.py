"""Bodies against a discovery document of Google's APIs: what the service would refuse, in its words.

The documents are installed with ``google-api-python-client``, which the Google provider needs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.protocol.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INTEGER = re.compile(r"^-?\d+$")
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")
_LIMITS = {"int32": (-(2**31), 2**31), "uint32": (0, 2**32), "int64": (-(2**63), 2**63), "uint64": (0, 2**64)}


@lru_cache(maxsize=4096)
def snake_case(name: str) -> str:
    """Return the protobuf name of a JSON field: ``gcsSource`` → ``gcs_source``."""
    return _WORD_START.sub("_", name).lower()


@dataclass(frozen=True)
class Method:
    """A method of the API.

    :param query: the query parameters that it takes, with their schemas
    :param request: name of the body's schema, if it takes a body
    :param response: name of the answer's schema
    """

    id: str
    http_method: str
    path: re.Pattern[str]
    query: Mapping[str, Mapping[str, Any]]
    request: str | None
    response: str | None


class Discovery:
    """One discovery document.

    :param document: the parsed JSON
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = document["schemas"]
        self._document = document
        self._fields: dict[str, dict[str, tuple[str, Mapping[str, Any]]]] = {}

    @classmethod
    def load(cls, api: str, version: str) -> Discovery:
        """Return the document of, for example, ``aiplatform`` ``v1``; read once per process."""
        return _load(api, version)

    @cached_property
    def methods(self) -> Sequence[Method]:
        """All methods; for several with one path, those whose path has the most fixed parts come first."""
        found: list[Method] = []
        pending = [self._document]
        while pending:
            resource = pending.pop()
            pending.extend(resource.get("resources", {}).values())
            found.extend(self._method(method) for method in resource.get("methods", {}).values())
        return sorted(found, key=lambda method: -len(method.path.pattern.replace("[^/:]+", "")))

    def method(self, http_method: str, path: str) -> Method | None:
        """Return the method that answers, for example, ``GET`` on ``/v1/projects/p/locations/l``."""
        for method in self.methods:
            if method.http_method == http_method and method.path.fullmatch(path.lstrip("/")):
                return method
        return None

    def _method(self, method: Mapping[str, Any]) -> Method:
        service = str(self._document.get("servicePath", "")).lstrip("/")
        fixed = re.split(r"\{[^}]+\}", service + (method.get("flatPath") or method["path"]))
        return Method(
            id=method["id"],
            http_method=method["httpMethod"],
            path=re.compile("[^/:]+".join(map(re.escape, fixed))),
            query={
                **self._document.get("parameters", {}),
                **{n: p for n, p in method.get("parameters", {}).items() if p["location"] == "query"},
            },
            request=method.get("request", {}).get("$ref"),
            response=method.get("response", {}).get("$ref"),
        )

    def schema_named(self, ending: str) -> str:
        """Return the full name of a schema of this version: ``GenerateContentRequest`` → ``GoogleCloud…``."""
        version = str(self._document["version"]).capitalize()
        return next(name for name in self._schemas if name.endswith(f"Aiplatform{version}{ending}"))

    def violations(self, schema: str, value: Any, at: str = "", *, strict: bool = False) -> list[Violation]:
        """Return what is wrong with a value.

        :param schema: name of its schema
        :param at: the path of the value itself, such as ``batch_prediction_job``
        :param strict: False: as the service reads a request, so snake_case, numbers in quotes, null, and one
            element for a list of one all pass. True: as the service writes an answer
        """
        check = _Check(self, strict)
        check.message(schema, value, at)
        return check.found

    def writable(self, schema: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message that has no violations as the service keeps it.

        Names in camelCase, without nulls and without the fields that only the service writes.
        """
        kept = {}
        properties = self.schema(schema).get("properties", {})
        for name, item in value.items():
            camel = next(known for known in properties if name in (known, snake_case(known)))
            if item is not None and not properties[camel].get("readOnly"):
                kept[camel] = self._writable(properties[camel], item)
        return kept

    def _writable(self, spec: Mapping[str, Any], value: Any) -> Any:
        if spec.get("type") == "array":
            items = value if isinstance(value, list) else [value]
            return [self._writable(spec["items"], item) for item in items]
        if "properties" in self._schemas.get(spec.get("$ref", ""), {}) and isinstance(value, dict):
            return self.writable(spec["$ref"], value)
        return value

    def schema(self, name: str) -> Mapping[str, Any]:
        """Return a schema by its full name."""
        schema: Mapping[str, Any] = self._schemas[name]
        return schema

    def fields(self, schema: str) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Return the fields of a schema, each under both spellings: snake_case name and schema."""
        fields = self._fields.get(schema)
        if fields is None:
            fields = {}
            for name, spec in self._schemas[schema].get("properties", {}).items():
                fields[name] = fields[snake_case(name)] = (snake_case(name), spec)
            self._fields[schema] = fields
        return fields


class _Check:
    """One pass over one value; ``found`` collects what is wrong."""

    def __init__(self, discovery: Discovery, strict: bool) -> None:
        self.found: list[Violation] = []
        self._discovery = discovery
        self._strict = strict

    def message(self, schema: str, value: Any, at: str) -> None:
        spec = self._discovery.schema(schema)
        if spec.get("type") == "any":
            return
        if spec.get("additionalProperties"):
            self._map(spec, value, at)
        elif not isinstance(value, dict):
            self.found.append(_invalid(at, f"type.googleapis.com/{schema}", value))
        else:
            self._members(schema, value, at)

    def _members(self, schema: str, value: Mapping[str, Any], at: str) -> None:
        fields = self._discovery.fields(schema)
        for name, item in value.items():
            known = fields.get(name)
            if known is None or (self._strict and "_" in name):
                self.found.append(_unparsed(at, f'Unknown name "{name}"{_at(at)}: Cannot find field.'))
            elif item is not None or self._strict:
                path = f"{at}.{known[0]}" if at else known[0]
                if isinstance(item, list) and known[1].get("type") not in ("array", "any"):
                    problem = "Proto field is not repeating, cannot start list."
                    self.found.append(_unparsed(at, f'Unknown name "{name}"{_at(at)}: {problem}'))
                else:
                    self._value(known[1], item, path)

    def _value(self, spec: Mapping[str, Any], value: Any, at: str) -> None:
        if "$ref" in spec:
            self.message(spec["$ref"], value, at)
        elif spec.get("type") == "object":
            self._map(spec, value, at)
        elif spec.get("type") == "array":
            self._list(spec, value, at)
        elif expected := _scalar_problem(spec, value, self._strict):
            self.found.append(_invalid(at, expected, value))

    def _list(self, spec: Mapping[str, Any], value: Any, at: str) -> None:
        if self._strict and not isinstance(value, list):
            self.found.append(_invalid(at, "list", value))
            return
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            self._value(spec["items"], item, f"{at}[{index}]")

    def _map(self, spec: Mapping[str, Any], value: Any, at: str) -> None:
        if not isinstance(value, dict):
            self.found.append(_invalid(at, "Map", value))
            return
        values = spec.get("additionalProperties") or {"type": "any"}
        for key, item in value.items():
            self._value(values, item, f"{at}[{key}]")


@lru_cache(maxsize=8)
def _load(api: str, version: str) -> Discovery:
    package = find_spec("googleapiclient")
    if not package or not package.origin:
        raise ModuleNotFoundError(
            "google-api-python-client is not installed; its discovery documents are needed"
        )
    path = Path(package.origin).parent / "discovery_cache" / "documents" / f"{api}.{version}.json"
    return Discovery(json.loads(path.read_bytes()))


def _scalar_problem(spec: Mapping[str, Any], value: Any, strict: bool) -> str | None:
    """Return the name of the type that was expected, or None when the value fits."""
    kind, form = spec.get("type"), spec.get("format", "")
    if form in _LIMITS:
        fits = _is_integer(value, form)
        if strict:
            fits = fits and type(value) is (str if kind == "string" else int)
        return None if fits else f"TYPE_{form.upper()}"
    if kind == "number":
        return None if _is_number(value, strict) else f"TYPE_{form.upper() or 'DOUBLE'}"
    if kind == "boolean":
        return None if isinstance(value, bool) else "TYPE_BOOL"
    return _string_problem(spec, value, strict) if kind == "string" else None


def _string_problem(spec: Mapping[str, Any], value: Any, strict: bool) -> str | None:
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
    if isinstance(value, str) and not _INTEGER.match(value):
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


def _at(path: str) -> str:
    return f" at '{path}'" if path else ""


def _unparsed(field: str, problem: str) -> Violation:
    return Violation(field, f"Invalid JSON payload received. {problem}")


def _invalid(at: str, expected: str, value: Any) -> Violation:
    return Violation(at, f"Invalid value{_at(at)} ({expected}), {json.dumps(value)[:200]}")
