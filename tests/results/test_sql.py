"""Every statement that landing runs, read by the real GoogleSQL analyzer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results import statements
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS, arranged, schema_fields
from airflow_gemini_batch.results.cost import price_parameters, usage_query
from airflow_gemini_batch.results.outputs import JobTable
from airflow_gemini_batch.results.report.facts import report_script
from airflow_gemini_batch.results.retried import standing_script
from airflow_gemini_batch.results.statements import (
    Landing,
    count_script,
    landing_script,
    list_parameters,
    media_script,
    replaced_script,
    schemas_script,
)

if TYPE_CHECKING:
    from google.cloud.bigquery import SchemaField

pytest.importorskip("zetasql", reason="the analyzer is installed with the dev group")

OUTPUT, INPUT, RESULTS, ERRORS = (
    TableName("my-project", "my_data", name) for name in ("output", "input", "results", "results_errors")
)
ALL_TYPES: dict[str, Any] = {
    "text": {"type": "string"},
    "choice": {"type": "string", "enum": ["a", "it's"]},
    "grade": {"type": "integer", "enum": [1, 2]},
    "count": {"type": "integer"},
    "score": {"type": "number"},
    "sure": {"type": "boolean"},
    "day": {"type": "string", "format": "date"},
    "at": {"type": "string", "format": "date-time"},
    "hour": {"type": "string", "format": "time"},
    "free": {"type": "object", "additionalProperties": {"type": "integer"}},
    "detail": {
        "type": "object",
        "properties": {
            "select": {"type": "integer"},
            "inner": {
                "properties": {"steps": {"type": "array", "items": {"properties": {"n": {"enum": [1]}}}}}
            },
        },
        "required": ["select", "inner"],
    },
    "anything": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
}
PROPERTIES = {f"one_{name}": schema for name, schema in ALL_TYPES.items()} | {
    f"many_{name}": {"type": "array", "items": schema} for name, schema in ALL_TYPES.items()
}
SCHEMA = ResponseSchema.of(
    {"type": "object", "properties": PROPERTIES, "required": ["one_text", "many_text", "one_detail"]}
)
JSON_TABLE = {"key": "STRING", "request": "JSON"}
TEXT_TABLE = {"key": "INTEGER", "request": "STRING"}
STATUS = {"status": "STRING"}
REPORT_QUERIES = ("rows", "tokens", "errors")


def table(name: TableName, **columns: str) -> JobTable:
    return JobTable(name, columns, None)


ANSWERS = {
    "objects": OUTPUT,
    "JSON columns": table(OUTPUT, **JSON_TABLE, **STATUS, response="JSON", processed_time="TIMESTAMP"),
    "text columns": table(OUTPUT, **TEXT_TABLE, **STATUS, response="STRING"),
    "few columns": table(OUTPUT, response="JSON"),
}
REQUESTS = {
    "objects": INPUT,
    "JSON columns": table(INPUT, **JSON_TABLE),
    "text columns": table(INPUT, **TEXT_TABLE),
    "no key": table(INPUT, request="JSON"),
    "unknown": None,
}
MEDIA = TableName("my-project", "my_data", "media")
MERGING: dict[str, Any] = {"merges": True, "request": False, "response": False}
VARIANTS: list[tuple[str, str, ResponseSchema | None, dict[str, Any]]] = [
    ("objects", "objects", SCHEMA, {}),
    ("objects", "objects", SCHEMA, MERGING),
    ("JSON columns", "JSON columns", None, {}),
    ("text columns", "text columns", None, MERGING),
    ("few columns", "no key", None, {}),
    ("objects", "unknown", None, {}),
    ("objects", "objects", SCHEMA, {"media": MEDIA}),
    ("text columns", "text columns", None, {"media": MEDIA}),
]


def older_table(schema: ResponseSchema) -> list[SchemaField]:
    """A table whose RECORDs have fields that the schema lacks, and the others in another order."""
    from google.cloud.bigquery import SchemaField

    inner = SchemaField("gone", "RECORD", fields=[SchemaField("b", "INTEGER")])
    gone = [SchemaField("old", "FLOAT", "REPEATED"), inner]
    return [
        SchemaField(each.name, each.field_type, each.mode, fields=[*gone, *reversed(each.fields)])
        if each.fields
        else each
        for each in schema_fields(schema.columns)
    ]


def landing_of(
    answers: str, requests: str, schema: ResponseSchema | None, more: dict[str, Any] | None = None
) -> Landing:
    columns = arranged(schema.columns, older_table(schema)) if schema else ()
    return Landing(ANSWERS[answers], REQUESTS[requests], RESULTS, ERRORS, columns, "key", **(more or {}))


def columns_of(source: TableName | JobTable | None) -> dict[str, dict[str, str]]:
    if isinstance(source, JobTable):
        return {str(source.name): dict(source.column_types)}
    return {str(source): {"line": "STRING"}} if source else {}


def schemas_scripts() -> list[tuple[str, TableName | JobTable]]:
    given = [(source, False) for source in REQUESTS.values()] + [
        (source, True) for source in ANSWERS.values()
    ]
    return [(schemas_script(source, 20, echoed=echoed), source) for source, echoed in given if source]


def flat(script: str) -> str:
    """Without scripting: the analyzer takes statements, so a condition is analyzed as a query."""
    script = re.sub(r"^IF$(.*?)^THEN$", r"SELECT (\1);", script, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^END IF;$", "", script, flags=re.MULTILINE)


def test_bigquery_would_run_every_variant() -> None:
    """In one test, since the analyzer takes long to start and a gigabyte to run."""
    from tests.results.google_sql import GoogleSql, column_types, sql_type

    analyzer = GoogleSql()
    text = sql_type("STRING")
    parameters = dict.fromkeys(("job_name", "dag_id", "task_id", "run_id"), text)
    parameters |= dict.fromkeys(("landed_at", "job_time"), sql_type("TIMESTAMP"))
    parameters |= {"truncate": sql_type("BOOL")}
    numbers = ("long_prompt_tokens", *price_parameters(None))
    parameters |= {**dict.fromkeys(numbers, sql_type("INT64")), "job_labels": text}
    parameters |= {"media_uri_prefix": text, "replaces": sql_type("STRING", "REPEATED")}
    for answers, requests, schema, more in VARIANTS:
        landing = landing_of(answers, requests, schema, more)
        tables = {
            name: {column: sql_type(kind) for column, kind in columns.items()}
            for source in (landing.answers, landing.requests)
            for name, columns in columns_of(source).items()
        }
        for name, made in ((RESULTS, (*RESULT_COLUMNS, *landing.columns)), (ERRORS, ERROR_COLUMNS)):
            tables[str(name)] = column_types(made)
        if landing.media:
            assert analyzer.check(media_script(landing.answers, "key", landing.media), tables, {})
        enums = dict.fromkeys(list_parameters(landing), sql_type("STRING", "REPEATED"))
        checked = analyzer.check(flat(landing_script(landing)), tables, {**parameters, **enums})
        kinds = [type(statement).__name__ for statement in checked]
        assert kinds.count("ResolvedBeginStmt") == kinds.count("ResolvedCommitStmt") == 1
        within = kinds[kinds.index("ResolvedBeginStmt") : kinds.index("ResolvedCommitStmt")]
        assert not [kind for kind in within if "Create" in kind or "Drop" in kind]
        assert kinds[-1] == "ResolvedQueryStmt"
    results = column_types(RESULT_COLUMNS)
    errors = column_types(ERROR_COLUMNS)
    names = dict.fromkeys(("job_names", "replaces"), sql_type("STRING", "REPEATED"))
    both = {str(RESULTS): results, str(ERRORS): errors}
    assert analyzer.check(count_script(RESULTS), both, names)
    assert analyzer.check(usage_query(RESULTS), both, {})
    for of_jobs in (True, False):
        assert analyzer.check(standing_script(RESULTS, of_jobs=of_jobs), both, names)
    assert analyzer.check(replaced_script(RESULTS, ERRORS), both, names)
    for script, source in schemas_scripts():
        tables = {
            name: {column: sql_type(kind) for column, kind in columns.items()}
            for name, columns in columns_of(source).items()
        }
        assert analyzer.check(script, tables, {})
    errors = {column.name: sql_type(column.type, column.mode) for column in ERROR_COLUMNS}
    for query in REPORT_QUERIES:
        script = report_script(query, results=RESULTS, errors=ERRORS)
        assert analyzer.check(script, {str(RESULTS): results, str(ERRORS): errors}, {"job_name": text})
    with pytest.raises(Exception, match="Unrecognized name: nothing"):
        analyzer.check("SELECT nothing", {}, {})


def test_the_variants_use_every_file() -> None:
    """A statement that no variant runs would be checked by nobody."""
    used = (
        "".join(landing_script(landing_of(*variant)) for variant in VARIANTS)
        + count_script(RESULTS)
        + replaced_script(RESULTS, ERRORS)
        + schemas_scripts()[0][0]
        + media_script(OUTPUT, "key", MEDIA)
        + usage_query(RESULTS)
        + standing_script(RESULTS, of_jobs=True)
    )
    used += "".join(report_script(query, results=RESULTS, errors=ERRORS) for query in REPORT_QUERIES)
    files = list(Path(statements.__file__).parent.rglob("*.sql"))
    assert files
    for file in files:
        first = file.read_text(encoding="utf-8").splitlines()[0].split("{{")[0]
        assert first in used, file.name
    assert "{{" not in used


def test_values_are_parameters() -> None:
    """Nothing that comes from a user's schema but its names stands in the script."""
    landing = landing_of("objects", "objects", SCHEMA)
    assert "it's" not in landing_script(landing)
    assert list_parameters(landing)["enum_1"] == ["a", "it's"]
