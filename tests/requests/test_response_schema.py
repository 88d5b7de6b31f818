from __future__ import annotations

import enum
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.exceptions import InvalidParameterError, ResponseSchemaError
from airflow_gemini_batch.requests.response_schema import Column, ResponseSchema

if TYPE_CHECKING:
    from collections.abc import Iterator


def of(**properties: Any) -> ResponseSchema:
    return ResponseSchema.of({"type": "object", "properties": properties})


def column(schema: dict[str, Any]) -> Column:
    (found,) = of(x=schema).columns
    return found


def for_request(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = of(x=schema).for_request()["properties"]["x"]
    return found


@pytest.mark.parametrize(
    ("schema", "kind", "mode"),
    [
        ({"type": "string"}, "STRING", "NULLABLE"),
        ({"type": "STRING"}, "STRING", "NULLABLE"),
        ({"enum": ["a", "b"]}, "STRING", "NULLABLE"),
        ({"type": "string", "format": "date"}, "DATE", "NULLABLE"),
        ({"type": "string", "format": "date-time"}, "TIMESTAMP", "NULLABLE"),
        ({"type": "string", "format": "time"}, "TIME", "NULLABLE"),
        ({"type": "string", "format": "email"}, "STRING", "NULLABLE"),
        ({"type": "integer"}, "INT64", "NULLABLE"),
        ({"type": "number"}, "FLOAT64", "NULLABLE"),
        ({"type": "boolean"}, "BOOL", "NULLABLE"),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, "RECORD", "NULLABLE"),
        ({"type": ["object", "null"], "properties": {"a": {"type": "string"}}}, "RECORD", "NULLABLE"),
        # Properties that the schema does not name would have no column.
        (
            {"properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}},
            "JSON",
            "NULLABLE",
        ),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "JSON", "NULLABLE"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "JSON", "NULLABLE"),
        ({}, "JSON", "NULLABLE"),
        ({"type": "array", "items": {"type": "integer"}}, "INT64", "REPEATED"),
        ({"type": "array", "items": {"type": "string", "format": "date"}}, "DATE", "REPEATED"),
        ({"type": "array", "items": {"type": "object"}}, "JSON", "REPEATED"),
        ({"type": "array", "items": {"properties": {"a": {"type": "string"}}}}, "RECORD", "REPEATED"),
        ({"type": "array"}, "JSON", "NULLABLE"),
        # BigQuery has no arrays of arrays and no nulls in arrays.
        ({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}, "JSON", "NULLABLE"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "JSON", "NULLABLE"),
    ],
)
def test_types_of_columns(schema: dict[str, Any], kind: str, mode: str) -> None:
    assert (column(schema).type, column(schema).mode) == (kind, mode)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["integer", "null"]},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        {"oneOf": [{"type": "null"}, {"type": "integer"}]},
        {"type": "integer", "nullable": True},
        {"any_of": [{"type": "INTEGER"}, {"type": "NULL"}]},
    ],
)
def test_every_way_to_say_null_becomes_nullable(schema: dict[str, Any]) -> None:
    assert for_request(schema) == {"type": "INTEGER", "nullable": True}
    assert column(schema).nullable


def test_a_pydantic_model() -> None:
    pydantic = pytest.importorskip("pydantic", reason="comes with Airflow")

    class Mood(enum.Enum):
        good = "good"
        bad = "bad"

    class Author(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        name: str

    model = pydantic.create_model(
        "Review",
        mood=(Mood, ...),
        stars=(int | None, pydantic.Field(None, ge=1, lt=6, description="One to five")),
        authors=(list[Author], ...),
        note=(str, ""),
    )
    schema = ResponseSchema.of(model)
    assert schema.columns == (
        Column("mood", "STRING", required=True, enum=("good", "bad")),
        Column("stars", "INT64", nullable=True, description="One to five"),
        Column(
            "authors", "RECORD", "REPEATED", required=True, fields=(Column("name", "STRING", required=True),)
        ),
        Column("note", "STRING"),
    )
    request = schema.for_request()
    assert request["properties"]["stars"]["maximum"] == 5
    assert request["properties"]["authors"]["items"]["properties"]["name"]["type"] == "STRING"
    assert request["required"] == ["mood", "authors"]


def test_a_list_of_a_model_is_one_column() -> None:
    pydantic = pytest.importorskip("pydantic", reason="comes with Airflow")
    model = pydantic.create_model("Review", stars=(int, ...), note=(Any, None))
    schema = ResponseSchema.of(list[model])  # type: ignore[valid-type]
    stars = Column("stars", "INT64", required=True)
    note = Column("note", "JSON", nullable=True)
    assert schema.columns == (
        Column("answer", "RECORD", "REPEATED", required=True, member="", fields=(stars, note)),
    )
    request = schema.for_request()
    assert (request["type"], request["items"]["required"]) == ("ARRAY", ["stars"])
    assert ResponseSchema.of(request) == schema
    assert ResponseSchema.of(schema) is schema


@pytest.mark.parametrize("given", [list[int], dict[str, int], int, list["Gone"]])  # type: ignore[name-defined] # noqa: F821
def test_types_that_make_no_table(given: object) -> None:
    with pytest.raises(ResponseSchemaError) as caught:
        ResponseSchema.of(given)
    assert caught.value.path == "$"


def test_a_schema_of_the_sdk() -> None:
    types = pytest.importorskip("google.genai.types", reason="comes with the Google provider")
    text = types.Schema(type="STRING", nullable=True)
    tags = types.Schema(type=types.Type.ARRAY, max_items=3, items=types.Schema(any_of=[text]))
    given = types.Schema(
        type="OBJECT",
        properties={"a": text, "tags": tags, "any": types.Schema()},
        required=["a"],
        property_ordering=["tags", "a", "any"],
    )
    schema = ResponseSchema.of(given)
    assert schema.for_request() == {
        "type": "OBJECT",
        "properties": {
            "a": {"type": "STRING", "nullable": True},
            "tags": {"type": "ARRAY", "maxItems": 3, "items": {"type": "STRING", "nullable": True}},
            "any": {"nullable": True},
        },
        "required": ["a"],
        "propertyOrdering": ["tags", "a", "any"],
    }
    assert [each.name for each in schema.columns] == ["tags", "a", "any"]
    of_list = ResponseSchema.of(types.Schema(type="ARRAY", items=given))
    assert of_list.columns[0].fields == schema.columns


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({}, {"nullable": True}),
        (True, {"nullable": True}),
        ({"title": "Any"}, {"title": "Any", "nullable": True}),
        ({"anyOf": [{}, {"type": "null"}]}, {"nullable": True}),
        ({"anyOf": [{}, {"type": "string"}]}, {"anyOf": [{"nullable": True}, {"type": "STRING"}]}),
        ({"type": "array", "items": {}}, {"type": "ARRAY"}),
        (
            {"type": "array", "items": {"title": "x"}},
            {"type": "ARRAY", "items": {"title": "x", "nullable": True}},
        ),
        ({"type": "object", "properties": {}, "additionalProperties": {}}, {"type": "OBJECT"}),
        (
            {"type": "object", "properties": {"y": {}}},
            {"type": "OBJECT", "properties": {"y": {"nullable": True}}},
        ),
    ],
)
def test_a_property_of_any_type_is_no_empty_object(schema: Any, written: dict[str, Any]) -> None:
    """From a public report: the import refuses an empty object anywhere in a line."""
    assert for_request(schema) == written
    assert ResponseSchema.of(
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}
    ).for_request() == {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING"}, "b": {"nullable": True}},
    }


def test_a_schema_of_the_service_keeps_its_order() -> None:
    given = {
        "type": "OBJECT",
        "properties": {"a": {"type": "NUMBER", "nullable": True}, "b": {"type": "STRING"}},
        "required": ["a"],
        "propertyOrdering": ["b", "a"],
    }
    assert ResponseSchema.of(given).for_request() == given
    assert [each.name for each in ResponseSchema.of(given).columns] == ["b", "a"]
    snake = {**given, "property_ordering": given["propertyOrdering"]}
    del snake["propertyOrdering"]
    assert ResponseSchema.of(snake).for_request() == given


def test_references_are_inlined_and_empty_keywords_removed() -> None:
    schema = ResponseSchema.of(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "one": {"$ref": "#/$defs/Thing", "description": "First"},
                "two": {"allOf": [{"$ref": "#/$defs/Thing"}], "default": {}},
                "many": {"type": "array", "items": {"$ref": "#/$defs/Thing"}, "enum": [], "title": ""},
                "none": {"type": "string", "description": None, "example": {}},
            },
            "$defs": {"Thing": {"type": "object", "properties": {"a": {"type": "string"}}}},
        }
    )
    thing = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
    assert schema.for_request()["properties"] == {
        "one": {**thing, "description": "First"},
        "two": thing,
        "many": {"type": "ARRAY", "items": thing},
        "none": {"type": "STRING"},
    }


def test_values_of_an_enum_are_text_for_the_service() -> None:
    assert for_request({"type": "integer", "enum": [1, 2]}) == {"type": "INTEGER", "enum": ["1", "2"]}
    assert column({"type": "array", "items": {"enum": ["a", None]}}).mode == "NULLABLE"
    assert for_request({"const": "a"}) == {"type": "STRING", "enum": ["a"]}


def test_records_are_nested_as_deep_as_bigquery_allows() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(17):
        schema = {"type": "object", "properties": {"x": schema}}
    found = ResponseSchema.of(schema).columns
    levels = 0
    while found[0].type == "RECORD":
        levels, found = levels + 1, found[0].fields
    assert (levels, found[0].type, found[0].json_kind) == (15, "JSON", "object")


def test_types_as_sql_writes_them() -> None:
    names = {"type": "array", "items": {"type": "string"}}
    people = {"type": "array", "items": {"properties": {"names": names, "age": {"type": "integer"}}}}
    assert column(people).sql_type == "ARRAY<STRUCT<`names` ARRAY<STRING>, `age` INT64>>"
    assert column({"type": "number"}).sql_type == "FLOAT64"


RECURSIVE = {
    "type": "object",
    "properties": {"child": {"$ref": "#/$defs/Node"}},
    "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
}


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (RECURSIVE, "$.properties.child.properties.next"),
        ({"type": "array", "items": {"type": "string"}}, "$"),
        ({"type": "object"}, "$"),
        ("text", "$"),
        ({"type": "object", "properties": {"a b": {"type": "string"}}}, "$.properties.a b"),
        ({"type": "object", "properties": {"1st": {"type": "string"}}}, "$.properties.1st"),
        (
            {"type": "object", "properties": {"_PARTITIONTIME": {"type": "string"}}},
            "$.properties._PARTITIONTIME",
        ),
        ({"type": "object", "properties": {"a": {}, "A": {}}}, "$.properties.a"),
        ({"type": "object", "properties": {"a": {"type": "tuple"}}}, "$.properties.a"),
        ({"type": "object", "properties": {"a": {"type": "null"}}}, "$.properties.a"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/Gone"}}}, "$.properties.a"),
        ({"type": "object", "properties": {"a": {"$ref": "other.json"}}}, "$.properties.a"),
        (
            {"type": "object", "properties": {"a": {"allOf": [{"type": "string"}, {"minLength": 1}]}}},
            "$.properties.a",
        ),
        ({"type": "object", "properties": {"a": {"enum": [1.5]}}}, "$.properties.a"),
        (
            {"type": "object", "properties": {"a": {"type": "array", "items": {"properties": {"b c": {}}}}}},
            "$.properties.a.items.properties.b c",
        ),
    ],
)
def test_errors_have_the_path_of_the_unsupported_part(schema: object, path: str) -> None:
    with pytest.raises(ResponseSchemaError) as caught:
        ResponseSchema.of(schema)
    assert caught.value.path == path
    assert isinstance(caught.value, InvalidParameterError)
    assert path in str(caught.value)


NAMES = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9]{0,8}", re.ASCII), fullmatch=True)
SCALARS = st.one_of(
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean")]),
    st.sampled_from([{"type": ["string", "null"]}, {"type": "string", "format": "date"}, {"const": "x"}]),
    st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True).map(lambda values: {"enum": values}),
    st.builds(lambda text: {"type": "string", "description": text, "default": None}, st.text()),
    st.sampled_from([{}, {"title": "Any"}, True]),
)


def objects(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(properties: dict[str, Any], required: bool) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": sorted(properties) if required else [],
            "additionalProperties": False,
        }

    names = st.dictionaries(NAMES, children, min_size=1, max_size=4).filter(
        lambda found: len({name.lower() for name in found}) == len(found)
    )
    return st.builds(build, names, st.booleans())


SCHEMAS = objects(
    st.recursive(
        SCALARS,
        lambda children: st.one_of(
            objects(children),
            st.builds(lambda items: {"type": "array", "items": items, "minItems": 0}, children),
            st.builds(lambda one, two: {"anyOf": [one, two, {"type": "null"}]}, children, children),
        ),
        max_leaves=8,
    )
)


def members(value: Any) -> Iterator[tuple[str, Any]]:
    for name, each in value.items() if isinstance(value, dict) else ():
        yield name, each
        yield from members(each)
    for each in value if isinstance(value, list) else ():
        yield from members(each)


# The first example also reads the discovery documents.
@settings(deadline=None)
@given(SCHEMAS)
def test_the_service_and_its_import_accept_every_schema(schema: dict[str, Any]) -> None:
    request = ResponseSchema.of(schema).for_request()
    for version in ("v1", "v1beta1"):
        discovery = Discovery.load("aiplatform", version)
        assert discovery.violations(discovery.schema_named("Schema"), request) == []
    types = set()
    for name, value in members(request):
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
        assert value is not None
        assert value not in ({}, [])
        if isinstance(value, list):
            assert None not in value
        if name == "type":
            types.add(type(value))
    assert types <= {str, dict}  # dict: a property may be called "type"


@given(SCHEMAS)
def test_every_property_is_one_column(schema: dict[str, Any]) -> None:
    found = ResponseSchema.of(schema)
    assert [each.name for each in found.columns] == list(schema["properties"])
    assert {each.name for each in found.columns if each.required} == set(schema["required"])
    for each in found.columns:
        assert each.type in ("STRING", "INT64", "FLOAT64", "BOOL", "DATE", "TIMESTAMP", "JSON", "RECORD")
        assert each.mode in ("NULLABLE", "REPEATED")
        properties = schema["properties"][each.name]
        items = properties.get("items", properties) if isinstance(properties, dict) else {}
        named = items.get("properties", {}) if isinstance(items, dict) else {}
        assert [one.name for one in each.fields] == list(named if each.type == "RECORD" else {})


@given(SCHEMAS)
def test_the_result_can_be_read_again(schema: dict[str, Any]) -> None:
    first = ResponseSchema.of(schema)
    second = ResponseSchema.of(first.for_request())
    assert second == first
    assert json.dumps(second.for_request()) == json.dumps(first.for_request())
