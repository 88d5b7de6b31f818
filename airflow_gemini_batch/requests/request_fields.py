"""The fields of a ``GenerateContentRequest``, from Google's discovery document.

The document is installed with ``google-api-python-client``, which the Google provider needs. It is that of
``v1beta1``: google-genai submits over it, and it has every field that ``v1`` has.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DOCUMENT = Path("discovery_cache", "documents", "aiplatform.v1beta1.json")
_PREFIX = "GoogleCloudAiplatformV1beta1"
_CAPITAL = re.compile(r"(?<!^)([A-Z])")
REQUEST = _PREFIX + "GenerateContentRequest"


@lru_cache(maxsize=4096)
def snake_case(name: str) -> str:
    """``generationConfig`` → ``generation_config``."""
    return _CAPITAL.sub(r"_\1", name).lower()


def member(message: Any, name: str) -> Any:
    """Return a field of a message, given by its camelCase name and written in either spelling."""
    if not isinstance(message, dict):
        return None
    value = message.get(name)
    return message.get(snake_case(name)) if value is None else value


def elements(value: Any) -> list[Any]:
    """Return a repeated field as a list; the service takes one element for a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def is_plain_text(spec: Mapping[str, Any]) -> bool:
    """Whether a scalar field takes any text."""
    return spec.get("type") == "string" and "enum" not in spec and not str(spec.get("format")).endswith("64")


class RequestFields:
    """The messages that a request is made of, by the names that the document gives them."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self.schemas: dict[str, Mapping[str, Any]] = {}
        self._members: dict[str, dict[str, tuple[str, Mapping[str, Any]]]] = {}
        pending = [REQUEST]
        while pending:
            name = pending.pop()
            if name not in self.schemas:
                self.schemas[name] = schemas[name]
                pending.extend(_references(schemas[name]))

    def members(self, schema: str) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
        """The fields of a message, each under both of its spellings: snake_case name and type."""
        if schema not in self._members:
            properties = self.schemas[schema].get("properties", {})
            self._members[schema] = {
                spelling: (snake_case(name), spec)
                for name, spec in properties.items()
                for spelling in (name, snake_case(name))
            }
        return self._members[schema]

    @property
    def names_with_checked_values(self) -> frozenset[str]:
        """Names, in both spellings, under which some field does not take any text."""
        names = {"role", "mimeType", "mime_type"}
        for schema in self.schemas:
            for name, (_, spec) in self.members(schema).items():
                scalar = spec.get("items", spec)
                if scalar.get("type") in ("string", "integer", "number") and not is_plain_text(scalar):
                    names.add(name)
        return frozenset(names)


def _references(spec: Any) -> Iterator[str]:
    if isinstance(spec, dict):
        if isinstance(spec.get("$ref"), str):
            yield spec["$ref"]
        for item in spec.values():
            yield from _references(item)


@lru_cache(maxsize=1)
def request_fields() -> RequestFields:
    """Read the document, once per process; some 50 ms.

    :raises ModuleNotFoundError: google-api-python-client is not installed
    """
    package = find_spec("googleapiclient")
    if not package or not package.origin:
        raise ModuleNotFoundError(
            "google-api-python-client is not installed; requests are checked against its discovery documents"
        )
    document = json.loads((Path(package.origin).parent / _DOCUMENT).read_bytes())
    return RequestFields(document["schemas"])
