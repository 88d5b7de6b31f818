"""A response schema: the shape that is requested from the model, and the table columns for it.

Reads a pydantic model class or a list of one, a JSON Schema, or the service's own ``responseSchema`` (an
OpenAPI 3.0 subset, ``GoogleCloudAiplatformV1Schema`` in the discovery document), also as an object of
google.genai, and converts it to the service's form.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_origin

from airflow_gemini_batch.exceptions import Described, ResponseSchemaError
from airflow_gemini_batch.gcp.column_rules import COLUMN_NAME, MAX_RECORD_DEPTH
from airflow_gemini_batch.requests.json_schema import BrokenReferenceError, follow

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_COLUMN = "answer"
"""The column of a schema whose answer is a list: it holds the whole list."""

_RESERVED = re.compile(r"(_table_|_file_|_partition|_row_timestamp|__root__|_colidentifier|_change_)", re.I)
_TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT")
_SCALARS = {"STRING": "STRING", "NUMBER": "FLOAT64", "INTEGER": "INT64", "BOOLEAN": "BOOL"}
_TEXT_FORMATS = {"date": "DATE", "date-time": "TIMESTAMP", "time": "TIME"}
# Copied unchanged. `default` and `example` are left out: they may have any type, and the import infers types.
_KEYWORDS = (
    *("format", "title", "description", "minimum", "maximum", "pattern", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
)
_SPELLINGS: dict[str, str] = {
    re.sub(r"([A-Z])", lambda m: "_" + m.group(1).lower(), name): name
    for name in (*_KEYWORDS, "anyOf", "propertyOrdering", "additionalProperties")
}


@dataclass(frozen=True)
class Column:
    """One property of the answer as a BigQuery column.

    :param type: STRING, INT64, FLOAT64, BOOL, DATE, TIMESTAMP, TIME, JSON or RECORD
    :param mode: NULLABLE or REPEATED
    :param required: the answer must have the property
    :param nullable: the property may be null
    :param enum: the allowed values as text; empty: any value
    :param json_kind: for JSON, the required type: ``object``, ``array`` or empty for any
    :param fields: the fields of a RECORD
    :param is_written: False for a field that the table has and the schema does not: it stays NULL
    :param member: the member of the answer that the column holds; ``None``: the one of its name; empty: the
        whole answer
    """

    name: str
    type: str
    mode: str = "NULLABLE"
    required: bool = False
    nullable: bool = False
    enum: tuple[str, ...] = ()
    description: str = ""
    json_kind: str = ""
    fields: tuple[Column, ...] = ()
    is_written: bool = True
    member: str | None = None

    @property
    def is_whole_answer(self) -> bool:
        """Whether the column holds the whole answer, not a member of it."""
        return self.member == ""

    @property
    def sql_type(self) -> str:
        """The type in GoogleSQL, such as ``ARRAY<STRUCT<`a` INT64>>``."""
        fields = ", ".join(f"`{each.name}` {each.sql_type}" for each in self.fields)
        kind = f"STRUCT<{fields}>" if self.type == "RECORD" else self.type
        return f"ARRAY<{kind}>" if self.mode == "REPEATED" else kind


@dataclass(frozen=True)
class ResponseSchema:
    """The shape of an answer, for the request and as columns. Create it with :meth:`of`."""

    columns: tuple[Column, ...]
    _request: str = field(repr=False)

    @classmethod
    def of(cls, schema: object) -> ResponseSchema:
        """Read a pydantic model class, ``list[Model]``, a JSON Schema, or a ``Schema`` as dict or object.

        :raises ResponseSchemaError: a part of it fits neither a request nor a table; the error has its path
        """
        if isinstance(schema, ResponseSchema):
            return schema
        document = _document(schema)
        if not isinstance(document, dict):
            fix = "give a pydantic model class, a list of one such as list[Model], or a JSON Schema as a dict"
            raise ResponseSchemaError("$", schema, fix)
        request = _Normaliser(document).node(document, "$", ())
        items = request.get("items") or {}
        if request.get("type") == "OBJECT" and request.get("properties"):
            columns = _columns(request)
        elif request.get("type") == "ARRAY" and items.get("type") == "OBJECT" and items.get("properties"):
            columns = (replace(_column(ANSWER_COLUMN, request, True, 0), nullable=False, member=""),)
        else:
            raise ResponseSchemaError(
                "$",
                request.get("type"),
                "the answer must be an object with properties, each of which is a column, or a list of such "
                "objects",
            )
        return cls(columns, json.dumps(request))

    def for_request(self) -> dict[str, Any]:
        """Return the value for ``generationConfig.responseSchema``, a new dict on each call."""
        request: dict[str, Any] = json.loads(self._request)
        return request


def _document(schema: object) -> object:
    """Return the JSON Schema of a type, or the members of an object of google.genai."""
    describe = getattr(schema, "model_json_schema", None)
    if isinstance(schema, type) and callable(describe):
        return describe()
    if get_origin(schema) is None:
        dump = None if isinstance(schema, type) else getattr(schema, "model_dump", None)
        return dump(mode="json", by_alias=True, exclude_none=True) if callable(dump) else schema
    from pydantic import PydanticUserError, TypeAdapter

    adapter: Any = TypeAdapter
    try:
        return adapter(schema).json_schema()
    except PydanticUserError:
        return None


class _Normaliser:
    """Converts JSON Schema to the service's schema: one type each, no references, nulls or empty values."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def node(self, given: object, path: str, references: tuple[object, ...]) -> dict[str, Any]:
        """Convert one schema to the service's form."""
        if given is True:  # As JSON Schema may write it: any value.
            given = {}
        if not isinstance(given, dict):
            raise ResponseSchemaError(path, given, "a schema must be an object")
        schema, references = self._resolve(_spelt(given), path, references)
        alternatives, nullable = self._alternatives(schema, path, references)
        if len(alternatives) == 1:
            result = {**alternatives[0], **_copied(schema)}
            nullable = nullable or bool(result.pop("nullable", False))
        elif alternatives:
            result = {"anyOf": alternatives, **_copied(schema)}
        else:
            result = self._typed(schema, path, references)
        # Without a type it is any value, null included. It must say so: the import takes no empty object.
        is_any = not result.keys() & {"type", "anyOf"}
        if nullable or is_any or schema.get("nullable") is True or _allows_null(schema):
            result["nullable"] = True
        return result

    def _resolve(
        self, schema: dict[str, Any], path: str, references: tuple[object, ...]
    ) -> tuple[dict[str, Any], tuple[object, ...]]:
        """Replace a reference with its target. Keywords next to the reference win."""
        try:
            while step := follow(schema, self._document, references):
                schema, references = {**_spelt(step.target), **step.siblings}, step.references
        except BrokenReferenceError as error:
            fix = "there is nothing of that name in this schema"
            if error.is_recursive:
                fix = "it contains itself, and a table column cannot. Remove the recursion"
            raise ResponseSchemaError(path, error.reference, fix) from None
        parts = schema.get("allOf")
        if not parts:
            return schema, references
        if len(parts) > 1:
            raise ResponseSchemaError(
                path,
                Described("has allOf"),
                "the service does not support allOf. Write the combined schema instead",
            )
        siblings = {k: v for k, v in schema.items() if k != "allOf"}
        return self._resolve({**_spelt(parts[0]), **siblings}, path, references)

    def _alternatives(
        self, schema: dict[str, Any], path: str, references: tuple[object, ...]
    ) -> tuple[list[dict[str, Any]], bool]:
        """Return the members of a union without null, and whether null was a member."""
        options = schema.get("anyOf") or schema.get("oneOf") or []
        types = schema.get("type")
        if not options and isinstance(types, list):
            options = [{**schema, "type": each} for each in types]
        kept = [option for option in options if not _is_null(option)]
        return [self.node(each, path, references) for each in kept], len(kept) < len(options)

    def _typed(self, schema: dict[str, Any], path: str, references: tuple[object, ...]) -> dict[str, Any]:
        kind = _kind(schema, path)
        result: dict[str, Any] = {"type": kind} if kind else {}
        result.update(_copied(schema))
        _exclusive_bounds(schema, kind, result)
        if enum := _enum(schema, path):
            result["enum"] = enum
        if kind == "ARRAY":
            if schema.get("prefixItems") or isinstance(schema.get("items"), list):
                raise ResponseSchemaError(
                    path,
                    Described("has prefixItems"),
                    "use an object with one property per position",
                )
            if schema.get("items"):
                result["items"] = self.node(schema["items"], f"{path}.items", references)
        if kind == "OBJECT":
            result.update(self._object(schema, path, references))
        return result

    def _object(self, schema: dict[str, Any], path: str, references: tuple[object, ...]) -> dict[str, Any]:
        given = schema.get("properties") or {}
        names = {name.lower(): name for name in given}
        for name in given:
            _check_name(name, f"{path}.properties.{name}")
            if names[name.lower()] != name:
                raise ResponseSchemaError(
                    f"{path}.properties.{name}",
                    name,
                    f"it differs from {names[name.lower()]!r} only in case",
                )
        properties = {
            name: self.node(each, f"{path}.properties.{name}", references) for name, each in given.items()
        }
        result: dict[str, Any] = {"properties": properties} if properties else {}
        if required := [name for name in schema.get("required") or () if name in properties]:
            result["required"] = required
        if order := [name for name in schema.get("propertyOrdering") or () if name in properties]:
            result["propertyOrdering"] = order
        if isinstance(values := schema.get("additionalProperties"), dict) and values:
            result["additionalProperties"] = self.node(values, f"{path}.additionalProperties", references)
        return result


def _spelt(schema: object) -> dict[str, Any]:
    """Return the keywords as REST spells them, without those that are null or empty."""
    given: dict[str, Any] = schema if isinstance(schema, dict) else {}
    return {_SPELLINGS.get(k, k): v for k, v in given.items() if v is not None and v not in ([], {}, "")}


def _copied(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: schema[name] for name in _KEYWORDS if name in schema}


def _kind(schema: Mapping[str, Any], path: str) -> str:
    given = schema.get("type")
    if given is None:
        for keyword, kind in (("properties", "OBJECT"), ("items", "ARRAY")):
            if keyword in schema:
                return kind
        return "STRING" if _enum(schema, path) else ""
    kind = str(given).upper()
    if kind == "TYPE_UNSPECIFIED":
        return ""
    if kind not in _TYPES:
        raise ResponseSchemaError(path, given, f"the type must be one of {', '.join(_TYPES)}")
    return kind


def _enum(schema: Mapping[str, Any], path: str) -> list[str]:
    """Return the enum values as text, as the service requires for integers too."""
    values = [schema["const"]] if "const" in schema else schema.get("enum") or []
    for value in values:
        if isinstance(value, (dict, list, float)):
            raise ResponseSchemaError(path, value, "the values of an enum must be text or integers")
    return [v if isinstance(v, str) else json.dumps(v) for v in values if v is not None]


def _exclusive_bounds(schema: Mapping[str, Any], kind: str, result: dict[str, Any]) -> None:
    step = 1 if kind == "INTEGER" else 0
    for exclusive, bound, away in (
        ("exclusiveMinimum", "minimum", step),
        ("exclusiveMaximum", "maximum", -step),
    ):
        value = schema.get(exclusive)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and bound not in result:
            result[bound] = value + away


def _is_null(option: object) -> bool:
    return isinstance(option, dict) and str(option.get("type")).lower() == "null"


def _allows_null(schema: Mapping[str, Any]) -> bool:
    return None in (schema.get("enum") or ()) or ("const" in schema and schema["const"] is None)


def _check_name(name: str, path: str) -> None:
    if not COLUMN_NAME.fullmatch(name):
        raise ResponseSchemaError(
            path,
            name,
            "use letters, digits and _ only, no digit first, and at most 300 characters",
        )
    if _RESERVED.match(name):
        raise ResponseSchemaError(path, name, "BigQuery reserves this prefix; rename the property")


def _columns(schema: Mapping[str, Any], level: int = 0) -> tuple[Column, ...]:
    """Return the columns of an object's properties. ``level`` counts the RECORDs around them."""
    required, properties = schema.get("required") or (), schema["properties"]
    names = dict.fromkeys([*(schema.get("propertyOrdering") or ()), *properties])
    return tuple(_column(name, properties[name], name in required, level) for name in names)


def _column(name: str, schema: Mapping[str, Any], required: bool, level: int) -> Column:
    kind = schema.get("type", "")
    items = schema.get("items") or {}
    repeated = kind == "ARRAY" and items.get("type") not in (None, "ARRAY") and not items.get("nullable")
    typed = items if repeated else schema
    column_type = _SCALARS.get(typed.get("type", ""), "JSON")
    if column_type == "STRING":
        column_type = _TEXT_FORMATS.get(typed.get("format", ""), "STRING")
    if typed.get("properties") and not typed.get("additionalProperties") and level < MAX_RECORD_DEPTH:
        column_type = "RECORD"
    return Column(
        name=name,
        type=column_type,
        mode="REPEATED" if repeated else "NULLABLE",
        required=required,
        nullable=bool(schema.get("nullable")),
        enum=tuple(typed.get("enum") or ()),
        description=schema.get("description") or "",
        json_kind=typed.get("type", "").lower() if column_type == "JSON" else "",
        fields=_columns(typed, level + 1) if column_type == "RECORD" else (),
    )
