"""Typed columns as BigQuery reads them, compared with an oracle in this file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.columns import RESULT_COLUMNS, arranged, schema_fields
from airflow_gemini_batch.results.typed import typed
from tests.results.lines import answered, asked

if TYPE_CHECKING:
    from google.cloud import bigquery

    from tests.results.conftest import Lander


def read(client: bigquery.Client, schema: ResponseSchema, texts: list[str]) -> list[dict[str, Any]]:
    """Read answers as typed columns; one row each, with the names of the schema and ``misfit``."""
    from google.cloud.bigquery import ArrayQueryParameter, QueryJobConfig

    source = (
        "(SELECT position, SAFE.PARSE_JSON(text, wide_number_mode => 'round') AS output"
        " FROM UNNEST(@texts) AS text WITH OFFSET AS position)"
    )
    made = typed(schema.columns, source)
    lists = {"texts": texts, **made.parameters}
    config = QueryJobConfig(query_parameters=[ArrayQueryParameter(n, "STRING", v) for n, v in lists.items()])
    named = "".join(f", column_{index} AS `{each.name}`" for index, each in enumerate(schema.columns))
    query = f"{render('results/typed')} SELECT misfit{named} FROM ({made.query}) ORDER BY position"
    return [dict(row.items()) for row in client.query(query, job_config=config).result()]


ORDER = ResponseSchema.of(
    {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "items": {
                    "properties": {
                        "price": {"type": "number"},
                        "sizes": {"type": "array", "items": {"enum": ["s", "m"]}},
                        "maker": {"properties": {"name": {"type": "string"}}, "required": ["name"]},
                    },
                    "required": ["price"],
                },
            },
            "buyer": {
                "properties": {"home": {"properties": {"zip": {"type": "string"}}, "required": ["zip"]}},
                "required": ["home"],
            },
            "opens": {"type": "string", "format": "time"},
            "sent": {"type": "string", "format": "date-time"},
            "free": {"type": "object", "additionalProperties": {"type": "integer"}},
            "any": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
    }
)
FITTING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"items": [], "buyer": None, "opens": None}),
    ({"items": None, "buyer": None}, {"items": [], "buyer": None}),
    (
        {"items": [{"price": 1, "sizes": ["m", "s"], "maker": {"name": "A"}}, {"price": 2.5, "more": 1}]},
        {
            "items": [
                {"price": 1.0, "sizes": ["m", "s"], "maker": {"name": "A"}},
                {"price": 2.5, "sizes": [], "maker": None},
            ]
        },
    ),
    ({"buyer": {"home": {"zip": "1"}}}, {"buyer": {"home": {"zip": "1"}}}),
    ({"opens": "09:30:00"}, {"opens": time(9, 30)}),
    ({"opens": "09:30:00.1234567Z"}, {"opens": time(9, 30, 0, 123456)}),
    ({"sent": "2026-02-28T12:00:00.5"}, {"sent": datetime(2026, 2, 28, 12, 0, 0, 500000, UTC)}),
    ({"sent": "2026-02-28 14:00:00+02:00"}, {"sent": datetime(2026, 2, 28, 12, tzinfo=UTC)}),
]
MISFITS = [
    ({"items": {}}, "$.items is not an array"),
    ({"items": [None]}, "$.items[0] is null"),
    ({"items": [{"price": 1}, 3]}, "$.items[1] is not an object"),
    ({"items": [{"price": 1}, {"price": "2"}, {}]}, "$.items[1].price is not FLOAT64"),
    ({"items": [{}, {"price": "2"}]}, "$.items[0].price is missing"),
    ({"items": [{"price": 1, "sizes": ["s", "xl"]}]}, "$.items[0].sizes[1] is not one of its enum values"),
    ({"items": [{"price": 1, "sizes": "s"}]}, "$.items[0].sizes is not an array"),
    ({"items": [{"price": 1, "maker": {"name": None}}]}, "$.items[0].maker.name is null"),
    ({"buyer": {}}, "$.buyer.home is missing"),
    ({"buyer": {"home": None}}, "$.buyer.home is null"),
    ({"buyer": {"home": {}}}, "$.buyer.home.zip is missing"),
    ({"buyer": {"home": [1]}}, "$.buyer.home is not an object"),
    ({"opens": "09:30:00+02:00"}, "$.opens is not TIME"),
    ({"opens": "25:00:00"}, "$.opens is not TIME"),
    ({"sent": "2026-02-28"}, "$.sent is not TIMESTAMP"),
    ({"free": []}, "$.free is not an object"),
]


def test_nested_answers(bigquery_client: bigquery.Client) -> None:
    texts = [json.dumps(answer) for answer, _ in FITTING]
    rows = read(bigquery_client, ORDER, texts)
    assert [row["misfit"] for row in rows] == [None] * len(FITTING)
    for row, (_, columns) in zip(rows, FITTING, strict=True):
        assert {name: row[name] for name in columns} == columns


def test_the_misfit_names_its_path(bigquery_client: bigquery.Client) -> None:
    texts = [json.dumps(answer) for answer, _ in MISFITS] + ["[]", "Sure!", "null"]
    misfits = [misfit for _, misfit in MISFITS] + ["$ is not a JSON object"] * 3
    assert [row["misfit"] for row in read(bigquery_client, ORDER, texts)] == misfits


def test_records_are_written_in_the_table_s_order(lander: Lander) -> None:
    """A table of an older schema has the same fields in another order, and other fields."""
    from google.cloud.bigquery import SchemaField, Table

    def fields(first: str, second: str) -> list[SchemaField]:
        return [
            SchemaField(first, "STRING"),
            SchemaField("old", "INTEGER", "REPEATED"),
            SchemaField(second, "STRING"),
        ]

    person = {"properties": {"name": {"type": "string"}, "city": {"type": "string"}}}
    schema = ResponseSchema.of(
        {"type": "object", "properties": {"one": person, "many": {"type": "array", "items": person}}}
    )
    own = [
        SchemaField("one", "RECORD", fields=fields("city", "name")),
        SchemaField("many", "RECORD", "REPEATED", fields=fields("city", "name")),
    ]
    lander.bigquery.create_table(Table(str(lander.destination), [*schema_fields(RESULT_COLUMNS), *own]))
    lander.put_input(asked("a"), asked("b"), asked("c"))
    anna = {"name": "Anna", "city": "Bern"}
    lander.put_output(
        answered("a", json.dumps({"one": anna, "many": [anna]})),
        answered("b", "{}"),
        answered("c", '{"many": [{"name": 1}]}'),
    )
    lander.land(schema)
    rows = lander.rows()
    assert (rows["a"]["one"], rows["a"]["many"]) == ({**anna, "old": []}, [{**anna, "old": []}])
    assert (rows["b"]["one"], rows["b"]["many"]) == (None, [])
    assert lander.statuses() == {"a": "succeeded", "b": "succeeded", "c": "invalid"}
    assert lander.errors()["c"]["error_message"].endswith(": $.many[0].name is not STRING")


def test_columns_are_arranged_like_the_table() -> None:
    made = schema_fields(ORDER.columns)
    assert arranged(ORDER.columns, made) == ORDER.columns


# The oracle: it reads the service's form of a schema, without SQL.


class MisfitError(Exception):
    pass


@dataclass(frozen=True)
class Json:
    """A value of a JSON column, which arrives parsed or as text, depending on the version of the client."""

    value: Any

    def __eq__(self, found: object) -> bool:
        return found == self.value or (isinstance(found, str) and json.loads(found) == self.value)

    __hash__ = None  # type: ignore[assignment]


def is_repeated(schema: dict[str, Any]) -> bool:
    items = schema.get("items", {})
    return (
        schema.get("type") == "ARRAY" and items.get("type", "ARRAY") != "ARRAY" and not items.get("nullable")
    )


def fit(schema: dict[str, Any], value: Any) -> Any:
    """Return the value of the column.

    :raises MisfitError: the value does not match
    """
    kind = schema.get("type")
    if kind is None or (kind == "ARRAY" and not is_repeated(schema)):
        return need(kind is None or isinstance(value, list), Json(value))
    if kind == "ARRAY":
        return [fit(schema["items"], item) for item in need(isinstance(value, list), value)]
    if kind == "OBJECT":
        return fit_object(schema, need(isinstance(value, dict), value))
    found = fit_scalar(kind, schema.get("format"), value)
    return need("enum" not in schema or str(value) in schema["enum"], found)


def fit_object(schema: dict[str, Any], value: dict[str, Any]) -> Any:
    if "properties" not in schema:
        return Json(value)
    found = {}
    for name, each in schema["properties"].items():
        required = name in schema.get("required", ())
        need(name in value or not required, None)
        if value.get(name) is None:
            need(each.get("nullable") or not required, None)
            found[name] = [] if is_repeated(each) else None
        else:
            found[name] = fit(each, value[name])
    return found


def fit_scalar(kind: str, form: str | None, value: Any) -> Any:
    if kind == "BOOLEAN":
        return need(isinstance(value, bool), value)
    if kind in ("INTEGER", "NUMBER"):
        need(isinstance(value, (int, float)) and not isinstance(value, bool), None)
        return float(value) if kind == "NUMBER" else need(value == int(value), int(value))
    need(isinstance(value, str), None)
    if form is None:
        return value
    pattern, parse = {
        "date": (r"\d{4}-\d\d-\d\d", date.fromisoformat),
        "date-time": (r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)?", moment),
        "time": (r"\d\d:\d\d:\d\d(\.\d+)?", time.fromisoformat),
    }[form]
    try:
        return need(re.fullmatch(pattern, value, re.ASCII), parse(value))
    except ValueError:
        raise MisfitError from None


def moment(text: str) -> datetime:
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found.replace(tzinfo=found.tzinfo or UTC)


def need(condition: object, value: Any) -> Any:
    if not condition:
        raise MisfitError
    return value


SCALARS = st.sampled_from(
    [{"type": kind} for kind in ("string", "integer", "number", "boolean", ["string", "null"])]
    + [{"type": "string", "format": form} for form in ("date", "date-time", "time")]
    + [{"enum": ["a", "b"]}, {"type": "integer", "enum": [1, 2]}, {}, {"type": "object"}]
)


def objects(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(given: dict[str, tuple[dict[str, Any], bool]], nullable: bool) -> dict[str, Any]:
        return {
            "type": ["object", "null"] if nullable else "object",
            "properties": {name: schema for name, (schema, _) in given.items()},
            "required": [name for name, (_, required) in given.items() if required],
        }

    pairs = st.tuples(children, st.booleans())
    names = st.sampled_from(["select", "from", "a1", "_b", "Name", "group"])
    return st.builds(build, st.dictionaries(names, pairs, min_size=1, max_size=4), st.booleans())


CHILDREN = st.recursive(
    SCALARS,
    lambda inner: objects(inner) | inner.map(lambda items: {"type": "array", "items": items}),
    max_leaves=6,
)
MISMATCHES = st.sampled_from(
    [
        None,
        True,
        7,
        2.0,
        1.5,
        10**20,
        "",
        "a",
        "1",
        "2026-02-30",
        "12:00:00",
        [],
        [None],
        ["a", 1],
        {},
        {"a1": 1},
    ]
)
TEXTS = {
    None: st.text(max_size=5),
    "date": st.dates(date(1000, 1, 1)).map(str),
    "date-time": st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30)).map(
        lambda each: each.isoformat() + "Z"
    ),
    "time": st.times().map(str),
}


def answers(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that mostly match a schema of the service."""
    kind = schema.get("type")
    if "enum" in schema:
        values: st.SearchStrategy[Any] = st.sampled_from(schema["enum"])
        values = values.map(int) if kind == "INTEGER" else values
    elif kind == "ARRAY":
        values = st.lists(answers(schema.get("items", {})), max_size=3)
    elif "properties" in schema:
        parts = {name: answers(each) for name, each in schema["properties"].items()}
        required = {name: parts.pop(name) for name in schema.get("required", ())}
        values = st.fixed_dictionaries(required, optional=parts)
    else:
        values = {
            "STRING": TEXTS[schema.get("format")],
            "INTEGER": st.integers(-(2**63), 2**63 - 1),
            "NUMBER": st.integers(-9, 9) | st.floats(-1e9, 1e9).map(lambda each: round(each, 3)),
            "BOOLEAN": st.booleans(),
            "OBJECT": st.just({"free": [1, None]}),
        }.get(str(kind), MISMATCHES)
    return st.integers(0, 15).flatmap(lambda number: values if number else MISMATCHES)


@st.composite
def cases(draw: st.DrawFn) -> tuple[ResponseSchema, list[Any]]:
    schema = ResponseSchema.of({**draw(objects(CHILDREN)), "type": "object"})
    return schema, draw(st.lists(answers(schema.for_request()), min_size=12, max_size=12))


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(cases())
def test_typed_columns_equal_the_oracle(
    bigquery_client: bigquery.Client, case: tuple[ResponseSchema, list[Any]]
) -> None:
    schema, given_answers = case
    request = schema.for_request()
    rows = read(bigquery_client, schema, [json.dumps(answer) for answer in given_answers])
    for answer, row in zip(given_answers, rows, strict=True):
        misfit = row.pop("misfit")
        try:
            expected = fit(request, answer)
        except MisfitError:
            assert misfit is not None, (request, answer)
        else:
            assert misfit is None, (misfit, request, answer)
            assert row == expected, (request, answer)


@pytest.mark.parametrize("value", ["a", None])
def test_the_oracle_finds_misfits(value: Any) -> None:
    with pytest.raises(MisfitError):
        fit({"type": "OBJECT", "properties": {"x": {"type": "INTEGER"}}, "required": ["x"]}, {"x": value})


def test_a_list_is_read_as_one_column(bigquery_client: bigquery.Client) -> None:
    item = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema = ResponseSchema.of({"type": "array", "items": item})
    texts = ['[{"n": 1}, {"n": 2}]', "[]", '[{"n": 1}, {"n": "x"}]', '{"n": 1}', "no JSON"]
    assert [(row["misfit"], row["answer"]) for row in read(bigquery_client, schema, texts)] == [
        (None, [{"n": 1}, {"n": 2}]),
        (None, []),
        ("$[1].n is not INT64", [{"n": 1}, {"n": None}]),
        ("$ is not a JSON array", []),
        ("$ is not a JSON array", []),
    ]
