"""The methods and messages of Google's APIs, as their discovery documents define them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.protocol.errors import Violation
from airflow_gemini_batch.gcp.discovery import Mismatch, Schemas, load_document, snake_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_gemini_batch.gcp import discovery


@dataclass(frozen=True)
class Method:
    """A method of the API.

    :param query: the query parameters that it takes, with their schemas
    :param request: name of the schema of its body, if it has one
    :param response: name of the schema of its response
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
        self._schemas = Schemas(document["schemas"])
        self._document = document

    @classmethod
    def load(cls, api: str, version: str) -> Discovery:
        """Return the document of, for example, ``aiplatform`` ``v1``; read once per process."""
        return _load(api, version)

    @cached_property
    def methods(self) -> Sequence[Method]:
        """All methods, those whose path has the most fixed parts first: several may match the same path."""
        found: list[Method] = []
        pending = [self._document]
        while pending:
            resource = pending.pop()
            pending.extend(resource.get("resources", {}).values())
            found.extend(self._method(method) for method in resource.get("methods", {}).values())
        return sorted(found, key=lambda method: -len(method.path.pattern.replace("[^/:]+", "")))

    def method(self, http_method: str, path: str) -> Method | None:
        """Return the method of, for example, ``GET`` ``/v1/projects/p/locations/l``, or None."""
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
        """Check a value against a schema.

        :param schema: name of the schema
        :param at: path of the value itself, such as ``batch_prediction_job``
        :param strict: False: accept what the service accepts in requests. True: accept only what it writes
        """
        return [_described(found) for found in self._schemas.violations(schema, value, at, strict=strict)]

    def writable(self, schema: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return a valid message as the service stores it.

        Names are in camelCase; nulls and the fields that only the service writes are removed.
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
        name = spec.get("$ref", "")
        if isinstance(value, dict) and name in self._schemas and "properties" in self._schemas[name]:
            return self.writable(name, value)
        return value

    def schema(self, name: str) -> Mapping[str, Any]:
        """Return a schema by its full name."""
        return self._schemas[name]

    def fields(self, schema: str) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """Return the fields of a schema by camelCase and by snake_case name: snake_case name and schema."""
        return self._schemas.fields(schema)


@lru_cache(maxsize=8)
def _load(api: str, version: str) -> Discovery:
    return Discovery(load_document(api, version))


def _described(found: discovery.Violation) -> Violation:
    """Describe a violation as the service does: a wrong value is quoted."""
    quoted = f", {json.dumps(found.value)[:200]}" if found.mismatch is Mismatch.WRONG_VALUE else ""
    return Violation(found.field, found.message + quoted)
