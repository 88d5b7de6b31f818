"""Generated values match any response schema."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gemini_batch.emulator.answers.prompt import Prompt
from airflow_gemini_batch.emulator.answers.scalars import SchemaError
from airflow_gemini_batch.emulator.answers.schema_values import SchemaValues

PROMPT = Prompt(
    "Classify this package.\n\nName: requests\nSummary: Python HTTP for Humans.\n"
    "Description: Requests is a simple, yet elegant, HTTP library. It sends requests."
)
_NAMES = st.from_regex(r"\A[a-z][a-z_]{0,10}\Z")


def _scalars() -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(-1000, 1000), st.integers(0, 500)).map(
        lambda pair: {"minimum": pair[0], "maximum": pair[0] + pair[1]}
    )
    lengths = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(
        lambda pair: {"minLength": pair[0], "maxLength": sum(pair)}
    )
    half_bounds = st.sampled_from([{}, {"minimum": 7}, {"maximum": -7}, {"exclusiveMinimum": 3}])
    return st.one_of(
        st.just({"type": "STRING"}),
        lengths.map(lambda limits: {"type": "string", **limits}),
        st.sampled_from(["date", "date-time", "time", "email", "uri", "uuid", "ipv4", "ipv6"]).map(
            lambda form: {"type": "STRING", "format": form}
        ),
        st.lists(st.text(min_size=1), min_size=1, max_size=4).map(lambda v: {"type": "STRING", "enum": v}),
        st.tuples(st.sampled_from(["INTEGER", "integer", "NUMBER", "number"]), bounds | half_bounds).map(
            lambda pair: {"type": pair[0], **pair[1]}
        ),
        st.just({"type": "INTEGER", "format": "int32", "multipleOf": 5, "minimum": 1, "maximum": 17}),
        st.just({"type": "BOOLEAN"}),
        st.just({"type": "NULL"}),
    )


def _objects(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        properties = draw(st.dictionaries(_NAMES, children, max_size=4))
        schema: dict[str, Any] = {
            "type": draw(st.sampled_from(["OBJECT", "object"])),
            "properties": properties,
        }
        if properties and draw(st.booleans()):
            schema["required"] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
        if properties and draw(st.booleans()):
            schema["propertyOrdering"] = draw(st.permutations(sorted(properties)))
        return schema

    return build()


def _arrays(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    limits = st.tuples(st.integers(0, 5), st.integers(0, 3)).map(
        # The service writes int64 as strings.
        lambda pair: {"minItems": str(pair[0]), "maxItems": str(sum(pair))}
    )
    return st.tuples(children, limits | st.just({})).map(
        lambda pair: {"type": "ARRAY", "items": pair[0], **pair[1]}
    )


def _composed(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return (
        _objects(children)
        | _arrays(children)
        | st.lists(children, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})
        | children.map(lambda schema: {**schema, "nullable": True})
    )


SCHEMAS = st.recursive(_scalars(), _composed, max_leaves=12)


def as_json_schema(schema: Any) -> Any:
    """Convert the service's form of a schema to JSON Schema, for the validator."""
    if isinstance(schema, list):
        return [as_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {n: as_json_schema(s) for n, s in value.items()}
        if key == "properties"
        else as_json_schema(value)
        for key, value in schema.items()
        if key not in ("nullable", "propertyOrdering", "enum")
    }
    made |= {key: int(made[key]) for key in ("minItems", "maxItems") if key in made}
    if "enum" in schema:
        made["enum"] = schema["enum"]
    if isinstance(made.get("type"), str):
        made["type"] = made["type"].lower()
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") else made


def make_value(schema: Any, prompt: Prompt, random: Random) -> Any:
    return SchemaValues(schema).value(prompt, random)


def check(value: Any, schema: Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, st.integers(0, 2**32))
def test_a_value_matches_its_schema(schema: dict[str, Any], seed: int) -> None:
    value = make_value(schema, PROMPT, Random(seed))
    check(json.loads(json.dumps(value)), as_json_schema(schema))
    assert value == make_value(schema, PROMPT, Random(seed))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["string", "null"]},
        {"type": ["integer", "string"]},
        {"const": 3},
        {"enum": ["a", None, 2]},
        {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"type": "string"}}, "required": ["b"]},
            ]
        },
        {
            "type": "array",
            "prefixItems": [{"type": "string"}, {"type": "integer"}],
            "minItems": 2,
            "items": False,
        },
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": 3},
            "uniqueItems": True,
            "minItems": 3,
        },
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "additionalProperties": False, "properties": {"a": {"type": "number"}}},
        {"type": "object", "minProperties": 3, "additionalProperties": True},
        {"type": "object", "required": ["not_in_properties"], "properties": {}},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"properties": {"a": {}}},
        {
            "$defs": {
                "item": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
            },
            "type": "object",
            "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1}},
            "required": ["items"],
        },
        {
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "parent": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    },
                    "required": ["name", "parent", "children"],
                }
            },
            "$ref": "#/$defs/node",
        },
    ],
    ids=lambda schema: json.dumps(schema)[:40],
)
def test_json_schema_is_supported(schema: dict[str, Any]) -> None:
    for seed in range(40):
        check(make_value(schema, PROMPT, Random(seed)), schema)


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "decimal"}, "no type decimal"),
        ({"$ref": "#/$defs/missing"}, "leads nowhere"),
        ({"$ref": "#"}, "refers to itself"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no number"),
        (
            {"type": "array", "items": {"const": 1}, "uniqueItems": True, "minItems": 2},
            "no 2 different items",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "never ends"),
    ],
)
def test_a_schema_that_no_value_matches_is_refused(schema: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        make_value(schema, PROMPT, Random(1))


def test_members_follow_the_property_ordering() -> None:
    properties = {name: {"type": "STRING"} for name in "abc"}
    schema = {"type": "OBJECT", "properties": properties, "propertyOrdering": ["c", "a", "b"]}
    assert list(make_value(schema, PROMPT, Random(1))) == ["c", "a", "b"]


def test_answers_use_words_of_the_prompt() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "one_line_summary": {"type": "STRING"},
            "description": {"type": "STRING"},
            "title": {"type": "STRING"},
            "category": {"type": "STRING", "enum": ["database", "http_client", "testing"]},
        },
    }
    value = make_value(schema, PROMPT, Random(3))
    assert value["one_line_summary"] == "Python HTTP for Humans."
    assert value["description"].startswith("Requests is a simple, yet elegant, HTTP library.")
    assert value["category"] == "http_client"
    assert len(value["title"].split()) <= 6
