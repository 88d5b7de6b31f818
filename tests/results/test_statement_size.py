"""The size and the depth of every statement that landing and what comes after it send, with large schemas."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from airflow_gemini_batch.gcp.column_rules import MAX_RECORD_DEPTH
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.columns import result_columns
from airflow_gemini_batch.results.cost import usage_query
from airflow_gemini_batch.results.destination import lock_script
from airflow_gemini_batch.results.landing import MAX_TABLES
from airflow_gemini_batch.results.retried import standing_script
from airflow_gemini_batch.results.row_counts import (
    count_script,
    landed_script,
    replaced_script,
    rivals_script,
)
from airflow_gemini_batch.results.staging import Part, note_script, objects_script, staged_script
from airflow_gemini_batch.results.statements import landing_script, list_parameters, media_script
from tests.results.test_sql import (
    ALL_TYPES,
    CLAIMED,
    ERRORS,
    JSON_TABLE,
    LOCK,
    MEDIA,
    MERGING,
    RESULTS,
    TABLES,
    Landing,
    landing_of,
    report_scripts,
    schemas_scripts,
    table,
)
from tests.statement_size import assert_is_small, depth

MODES: dict[str, dict[str, Any]] = {
    "append": {"claims": CLAIMED},
    "merge": {"claims": CLAIMED, **MERGING},
    "truncate": {"truncates": True, "lock": LOCK},
    "replace": {"replaces": True, "media": MEDIA},
}


def wide(properties: int, name: str = "a_property_with_a_long_name") -> ResponseSchema:
    """A schema with properties of all types in turn, alone and in arrays, all of them required."""
    made: dict[str, Any] = {}
    for number, schema in zip(range(properties), cycle(ALL_TYPES.values()), strict=False):
        made[f"{name}_{number}"] = {"type": "array", "items": schema} if number % 3 == 0 else schema
    return ResponseSchema.of({"type": "object", "properties": made, "required": list(made)})


def deep(levels: int) -> ResponseSchema:
    """A schema of arrays of objects inside each other."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels + 1):
        inner = {"inner": {"type": "array", "items": schema}}
        schema = {"type": "object", "properties": inner, "required": ["inner"]}
    return ResponseSchema.of(schema)


def landing(schema: ResponseSchema, mode: str) -> Landing:
    columns = result_columns(schema)[-len(schema.columns) :]
    return landing_of("objects", "objects", ResponseSchema(columns, "{}"), MODES[mode])


@pytest.mark.parametrize("mode", MODES)
def test_a_landing_with_a_schema_of_200_properties(mode: str) -> None:
    """More properties make it longer in proportion, and no deeper."""
    small, large, larger = (landing_script(landing(wide(number), mode)) for number in (39, 200, 361))
    assert_is_small(large)
    assert len(larger) - len(large) < 1.1 * (len(large) - len(small))
    assert depth(larger) == depth(large) == depth(small)


def test_a_landing_with_names_as_long_as_bigquery_takes() -> None:
    large = landing(wide(200, "a" * 290), "merge")
    assert_is_small(landing_script(large))
    # BigQuery takes 10,000 parameters.
    assert len(list_parameters(large)) < 200


@pytest.mark.parametrize("mode", MODES)
def test_a_landing_with_the_deepest_schema(mode: str) -> None:
    assert_is_small(landing_script(landing(deep(MAX_RECORD_DEPTH), mode)))
    deeper, deepest = (
        depth(landing_script(landing(deep(levels), mode))) for levels in (30, MAX_RECORD_DEPTH)
    )
    assert deeper == deepest


def test_a_landing_of_as_many_jobs_with_tables_as_are_landed_at_once() -> None:
    names = [TableName("p" * 30, "d" * 100, f"{number:0100}") for number in range(MAX_TABLES)]
    parts = tuple(Part(table(name, **JSON_TABLE), number) for number, name in enumerate(names))
    many = {"responses": parts, "requests": parts}
    assert_is_small(landing_script(landing_of("objects", "objects", wide(200), many)))


def test_all_other_statements_are_small_whatever_the_schema() -> None:
    scripts = [
        media_script(landing(wide(200), "replace")),
        *(script for script, _ in schemas_scripts()),
        *report_scripts(),
        *(standing_script(RESULTS, of_jobs=of_jobs) for of_jobs in (True, False)),
        *(script(tables) for script in (landed_script, replaced_script, rivals_script) for tables in TABLES),
        *(landed_script(tables, by_run=True) for tables in TABLES),
        count_script(ERRORS),
        usage_query(RESULTS),
        lock_script(LOCK),
        *(staged_script(MEDIA, names_objects=names) for names in (True, False)),
        objects_script(),
        note_script(MEDIA),
    ]
    for script in scripts:
        assert_is_small(script)
        assert len(script) < 20_000
