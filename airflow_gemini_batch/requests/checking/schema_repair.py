"""Rewrites a response schema so that the import accepts it, without changing its meaning.

There are two dialects: the service's own ``Schema``, in which an empty value equals a missing one and which
has ``nullable``; and JSON Schema, in which null is a type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.requests.checking.inferred_columns import child
from airflow_gemini_batch.requests.json_schema import BrokenReferenceError, follow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SUBSCHEMAS = ("items", "additionalProperties", "additional_properties", "not", "contains")
_LISTS = ("anyOf", "any_of", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties")
# With an empty value, these have no effect in JSON Schema either.
_NO_EFFECT_IF_EMPTY = (
    *("properties", "patternProperties", "required", "items", "additionalProperties", "$defs"),
    *("definitions", "prefixItems", "propertyOrdering", "examples", "dependentRequired"),
)
# The values of these are data, not schemas.
_DATA = ("const", "default", "example", "examples", "enum")
_ANNOTATIONS = ("title", "description", "default", "examples", "example", "deprecated")
# Each definition that is used twice doubles the size of those that use it.
_MOST_NODES = 10_000


class CannotRepairError(Exception):
    """The schema cannot be rewritten without changing its meaning."""


class SchemaRepair:
    """Rewrites one schema.

    :param schema: the whole schema, which references point into
    :param is_json_schema: True: JSON Schema. False: the service's own ``Schema``
    :param changed: called for each change with the name of the repair and the JSON path
    """

    def __init__(
        self, schema: Mapping[str, Any], *, is_json_schema: bool, changed: Callable[[str, str], None]
    ) -> None:
        self._root = schema
        self._is_json_schema = is_json_schema
        self._changed = changed
        self._has_references = "'$ref'" in str(schema)
        self._nodes = 0

    def repaired(self, path: str) -> dict[str, Any]:
        """Return the repaired schema.

        :param path: JSON path of the schema in its row
        :raises CannotRepairError: a reference is recursive or broken, or the result would be too large
        """
        return self._node(self._root, path, ())

    def _node(self, given: Mapping[str, Any], path: str, followed: tuple[object, ...]) -> dict[str, Any]:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise CannotRepairError(path)
        schema, followed = self._resolved(given, path, followed)
        for name in ("$defs", "definitions"):
            if name in schema and (name == "$defs" or self._has_references):
                del schema[name]
                self._changed("inline-ref", child(path, name))
        self._drop_empty(schema, path)
        for name, value in list(schema.items()):
            at = child(path, name)
            if name in _DATA:
                continue
            if name in _SUBSCHEMAS and isinstance(value, dict):
                schema[name] = self._node(value, at, followed)
            elif name in _MAPS and isinstance(value, dict):
                schema[name] = {
                    key: self._node(item, child(at, key), followed) if isinstance(item, dict) else item
                    for key, item in value.items()
                }
            elif name in _LISTS and isinstance(value, list):
                schema[name] = [
                    self._node(item, f"{at}[{index}]", followed) if isinstance(item, dict) else item
                    for index, item in enumerate(value)
                ]
        return self._without_null_type(schema, path)

    def _resolved(
        self, given: Mapping[str, Any], path: str, followed: tuple[object, ...]
    ) -> tuple[dict[str, Any], tuple[object, ...]]:
        schema = dict(given)
        try:
            while isinstance(schema.get("$ref"), str) and (
                step := follow(schema, self._root, followed, ("$ref",))
            ):
                if any(name in step.target and name not in _ANNOTATIONS for name in step.siblings):
                    raise CannotRepairError(step.references[-1])
                schema, followed = {**step.target, **step.siblings}, step.references
                self._changed("inline-ref", child(path, "$ref"))
        except BrokenReferenceError as error:
            raise CannotRepairError(error.reference) from None
        return schema, followed

    def _drop_empty(self, schema: dict[str, Any], path: str) -> None:
        for name, value in list(schema.items()):
            # The import rejects an empty object as well.
            if len(schema) == 1:
                return
            if value is None and name != "const":
                self._changed("null-keyword", child(path, name))
                del schema[name]
            elif value in ({}, []) and name not in _DATA[:3]:
                if self._is_json_schema and name not in _NO_EFFECT_IF_EMPTY:
                    continue
                self._changed("empty-keyword", child(path, name))
                del schema[name]

    def _without_null_type(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        types, values = schema.get("type"), schema.get("enum")
        if not isinstance(types, list) or len(types) != 2 or {"const", "anyOf"} & schema.keys():
            return schema
        others = [name for name in types if str(name).lower() != "null"]
        if len(others) != 1:
            return schema
        typed = {**schema, "type": others[0]}
        if isinstance(values, list):
            typed["enum"] = [value for value in values if value is not None]
        self._changed("nullable-type", child(path, "type"))
        if not self._is_json_schema:
            return {**typed, "nullable": True}
        if isinstance(values, list) and None not in values:
            # The type allows null, but the enum does not.
            return typed
        outside = {name: typed.pop(name) for name in _ANNOTATIONS if name in typed}
        return {"anyOf": [typed, {"type": "null"}], **outside}
