"""Every statement that landing runs: the GoogleSQL analyzer resolves its names and types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jinja2 import Environment

from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.in_bigquery.claims import COLUMNS as CLAIM_COLUMNS
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD, KeyField
from airflow_gemini_batch.requests.response_schema import Column, ResponseSchema
from airflow_gemini_batch.results import statements
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS, arranged, schema_fields
from airflow_gemini_batch.results.cost import price_parameters, usage_query
from airflow_gemini_batch.results.destination import lock_of, lock_script
from airflow_gemini_batch.results.outputs import JobTable
from airflow_gemini_batch.results.report.facts import report_script
from airflow_gemini_batch.results.retried import standing_script
from airflow_gemini_batch.results.row_counts import (
    Tables,
    count_script,
    landed_script,
    replaced_script,
    rivals_script,
)
from airflow_gemini_batch.results.staging import Part, note_script, objects_script, staged_script
from airflow_gemini_batch.results.statements import (
    Landing,
    landing_script,
    list_parameters,
    media_script,
    schemas_script,
)

if TYPE_CHECKING:
    from google.cloud.bigquery import SchemaField

    from tests.results.google_sql import GoogleSql

pytest.importorskip("zetasql", reason="the analyzer is installed with the dev group")

OUTPUT, INPUT, RESULTS, ERRORS, OTHER_OUTPUT, OTHER_INPUT = (
    TableName("my-project", "my_data", name)
    for name in ("output", "input", "results", "results_errors", "other_output", "other_input")
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
PROPERTIES = (
    {f"one_{name}": schema for name, schema in ALL_TYPES.items()}
    | {f"many_{name}": {"type": "array", "items": schema} for name, schema in ALL_TYPES.items()}
    | {name: {"type": "string"} for name in ("select", "From", "ORDER")}
)
SCHEMA = ResponseSchema.of(
    {"type": "object", "properties": PROPERTIES, "required": ["one_text", "many_text", "one_detail"]}
)
JSON_TABLE = {"key": "STRING", "request": "JSON"}
TEXT_TABLE = {"key": "INTEGER", "request": "STRING"}
STATUS = {"status": "STRING"}


def table(name: TableName, **columns: str) -> JobTable:
    return JobTable(name, columns, None)


RESPONSES: dict[str, TableName | JobTable] = {
    "objects": OUTPUT,
    "JSON columns": table(OUTPUT, **JSON_TABLE, **STATUS, response="JSON", processed_time="TIMESTAMP"),
    "text columns": table(OUTPUT, **TEXT_TABLE, **STATUS, response="STRING"),
    "few columns": table(OUTPUT, response="JSON"),
    "status as JSON": table(OUTPUT, **JSON_TABLE, response="JSON", status="JSON"),
    "status as a RECORD": table(OUTPUT, **JSON_TABLE, response="JSON", status="RECORD"),
}
REQUESTS: dict[str, TableName | JobTable | None] = {
    "objects": INPUT,
    "JSON columns": table(INPUT, **JSON_TABLE),
    "text columns": table(INPUT, **TEXT_TABLE),
    "no key": table(INPUT, request="JSON"),
    "unknown": None,
}
MEDIA = TableName("my-project", "my_data", "media")
SHARED = TableName("my-project", "my_data", "errors_of_many")
FILTER = "landed_at >= TIMESTAMP '0001-01-01'"
FILTERED = {"results_filter": FILTER, "errors_filter": FILTER}
TABLES = (Tables(RESULTS, ERRORS), Tables(RESULTS, SHARED), Tables(RESULTS, ERRORS, **FILTERED))
LOCK = lock_of(RESULTS)
CLAIMED = RESULTS.sibling(f"{RESULTS.table}_retry_claims")
MERGING: dict[str, Any] = {"merges": True, "lock": LOCK, "stores_requests": False, "stores_responses": False}
# Jobs 0 and 1 have objects, 2 has tables, 3 has input that is unknown.
MANY: dict[str, Any] = {
    "responses": (Part(OUTPUT, None), Part(table(OTHER_OUTPUT, **JSON_TABLE, response="JSON"), 2)),
    "requests": (Part(INPUT, None, names_objects=True), Part(table(OTHER_INPUT, **JSON_TABLE), 2)),
    "unknown": (3,),
}
VARIANTS: list[tuple[str, str, ResponseSchema | None, dict[str, Any]]] = [
    ("objects", "objects", SCHEMA, {}),
    ("objects", "objects", SCHEMA, MERGING),
    ("JSON columns", "JSON columns", None, {}),
    ("text columns", "text columns", None, MERGING),
    ("few columns", "no key", None, {}),
    ("status as JSON", "JSON columns", None, {}),
    ("status as a RECORD", "JSON columns", None, {}),
    ("objects", "unknown", None, {}),
    ("objects", "objects", SCHEMA, {"media": MEDIA}),
    ("text columns", "text columns", None, {"media": MEDIA}),
    ("objects", "objects", None, {"truncates": True, "lock": LOCK}),
    ("objects", "objects", None, {"truncates": True, "lock": LOCK, "errors": SHARED}),
    ("objects", "objects", None, {"replaces": True, "errors": SHARED}),
    ("objects", "objects", None, {"replaces": True, **MERGING}),
    ("objects", "objects", None, {"key_field": KeyField.parse("labels.custom-id")}),
    ("objects", "objects", None, {"key_field": KeyField.parse("meta-data.Größe")}),
    ("text columns", "JSON columns", None, {"key_field": KeyField.parse("labels.custom_id")}),
    ("text columns", "JSON columns", None, {"key_field": KeyField.parse("key.custom-id")}),
    ("objects", "objects", None, {"claims": CLAIMED}),
    ("objects", "unknown", None, {"claims": CLAIMED, **MERGING}),
    ("objects", "objects", None, {"claims": CLAIMED, "truncates": True, "lock": LOCK}),
    ("objects", "objects", SCHEMA, MANY),
    ("objects", "objects", None, {**MANY, "claims": CLAIMED, **MERGING}),
    *(
        ("objects", "unknown", None, {**FILTERED, "claims": CLAIMED, **more})
        for more in ({"replaces": True}, MERGING, {"truncates": True, "lock": LOCK})
    ),
]


def older_table(schema: ResponseSchema) -> list[SchemaField]:
    """A table whose RECORDs have extra fields, and the schema's fields in another order."""
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
    responses: str, requests: str, schema: ResponseSchema | None, more: dict[str, Any] | None = None
) -> Landing:
    columns = arranged(schema.columns, older_table(schema)) if schema else ()
    given = REQUESTS[requests]
    values: dict[str, Any] = {
        "responses": (Part(RESPONSES[responses]),),
        "requests": (Part(given),) if given else (),
        "unknown": () if given else (0,),
        "errors": ERRORS,
        "key_field": DEFAULT_KEY_FIELD,
        **(more or {}),
    }
    return Landing(results=RESULTS, columns=columns, **values)


def columns_of(part: Part) -> dict[str, dict[str, str]]:
    if isinstance(part.source, JobTable):
        return {str(part.source.name): dict(part.source.column_types)}
    return {str(part.source): {"job": "INT64", "object": "STRING", "line": "STRING"}}


def schemas_scripts() -> list[tuple[str, tuple[Part, ...]]]:
    return [
        (schemas_script(parts, 20, is_output=is_output), parts)
        for sources, is_output in ((REQUESTS, False), (RESPONSES, True))
        for parts in (*((Part(source),) for source in sources.values() if source), MANY["requests"])
    ]


def report_scripts() -> list[str]:
    return [
        *(report_script("rows", results=RESULTS, has_searches=has) for has in (True, False)),
        report_script("tokens", results=RESULTS),
        *(
            report_script("errors", results=RESULTS, errors=errors, is_named=is_named)
            for errors, is_named in ((ERRORS, True), (SHARED, True), (ERRORS, False))
        ),
    ]


def flat(script: str) -> str:
    """Remove scripting, which the analyzer does not support: conditions become queries."""
    script = re.sub(r"^IF$(.*?)^THEN$", r"SELECT (\1);", script, flags=re.DOTALL | re.MULTILINE)
    script = re.sub(r"^SET \w+ = (.*?);$", r"SELECT \1;", script, flags=re.DOTALL | re.MULTILINE)
    script = re.sub(r"^(ELSE|END IF;|DECLARE .*;)$", "", script, flags=re.MULTILINE)
    return re.sub(r"\b(landing_time|lost_rows_are_charged|failed_since)\b", r"@\1", script)


def parameter_types() -> dict[str, Any]:
    """The types of the parameters and variables of the landing script."""
    from tests.results.google_sql import sql_type

    text = sql_type("STRING")
    parameters = dict.fromkeys(("dag_id", "task_id", "run_id", "media_uri_prefix"), text)
    parameters |= {"landing_time": sql_type("TIMESTAMP"), "lost_rows_are_charged": sql_type("BOOL")}
    parameters |= dict.fromkeys(("since", "failed_since", "landed_at"), sql_type("TIMESTAMP"))
    parameters |= dict.fromkeys(("map_index", "long_prompt_tokens"), sql_type("INT64"))
    parameters |= dict.fromkeys(("job_names", "replaces"), sql_type("STRING", "REPEATED"))
    members = [Column("number", "INT64"), Column("ended_at", "TIMESTAMP")]
    members += [Column(name, "STRING") for name in ("name", "labels", "input_uri")]
    members += [Column(name, "INT64") for name in ("asked_rows", "charged_rows", *price_parameters(None))]
    return {**parameters, "jobs": sql_type("RECORD", "REPEATED", members)}


@pytest.mark.analyzer
@pytest.mark.xdist_group("analyzer")
def test_names_types_and_syntax_of_every_statement_are_those_of_bigquery(analyzer: GoogleSql) -> None:
    """In one test, because the analyzer starts slowly and takes a gigabyte."""
    from zetasql.core.exceptions import ServerError

    from tests.results.google_sql import column_types, sql_type

    text = sql_type("STRING")
    parameters = parameter_types()
    for responses, requests, schema, more in VARIANTS:
        landing = landing_of(responses, requests, schema, more)
        tables = {
            name: {column: sql_type(kind) for column, kind in columns.items()}
            for part in (*landing.responses, *landing.requests)
            for name, columns in columns_of(part).items()
        }
        for name, made in ((RESULTS, (*RESULT_COLUMNS, *landing.columns)), (landing.errors, ERROR_COLUMNS)):
            tables[str(name)] = column_types(made)
        tables[str(CLAIMED)] = {name: sql_type(kind) for name, kind, _ in CLAIM_COLUMNS}
        tables[str(LOCK)] = {"job_name": text, "locked_at": sql_type("TIMESTAMP")}
        if landing.media:
            assert analyzer.check(media_script(landing), tables, {})
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
    names |= dict.fromkeys(("landed_at", "since"), sql_type("TIMESTAMP"))
    of_run = dict.fromkeys(("dag_id", "run_id", "task_id"), text) | {"map_index": sql_type("INT64")}
    both = {str(RESULTS): results, str(ERRORS): errors, str(SHARED): errors}
    assert analyzer.check(count_script(RESULTS), both, names)
    assert analyzer.check(usage_query(RESULTS), both, {})
    for of_jobs in (True, False):
        assert analyzer.check(standing_script(RESULTS, of_jobs=of_jobs), both, names)
    for tables_of in TABLES:
        assert analyzer.check(replaced_script(tables_of), both, names)
        assert analyzer.check(rivals_script(tables_of), both, names)
        assert analyzer.check(landed_script(tables_of), both, names)
        assert analyzer.check(landed_script(tables_of, by_run=True), both, {**names, **of_run})
    assert analyzer.check(lock_script(LOCK), {}, {})
    assert analyzer.check(note_script(OUTPUT), {str(OUTPUT): {"line": text}}, {"notes": names["replaces"]})
    for names_objects in (True, False):
        assert analyzer.check(staged_script(MEDIA, names_objects=names_objects), {}, {})
    # BigQuery gives a table of objects this pseudocolumn.
    lines = {"lines_of_objects": {"line": text, "_FILE_NAME": text}}
    objects = sql_type("RECORD", "REPEATED", [Column("uri", "STRING"), Column("job", "INT64")])
    assert analyzer.check(objects_script(), lines, {"objects": objects})
    for script, parts in schemas_scripts():
        tables = {
            name: {column: sql_type(kind) for column, kind in columns.items()}
            for part in parts
            for name, columns in columns_of(part).items()
        }
        assert analyzer.check(script, tables, {})
    errors = {column.name: sql_type(column.type, column.mode) for column in ERROR_COLUMNS}
    for script in report_scripts():
        assert analyzer.check(script, both, names)
    # A statement that is known is checked again when a table of its name has other columns.
    words, table = "SELECT UPPER(words[OFFSET(0)]) FROM t;", {"words": sql_type("STRING", "REPEATED")}
    assert analyzer.check(words, {"t": table}, {})
    with pytest.raises(ServerError, match="No matching signature for function UPPER"):
        analyzer.check(words, {"t": {"words": sql_type("FLOAT64", "REPEATED")}}, {})
    with pytest.raises(Exception, match="Unrecognized name: nothing"):
        analyzer.check("SELECT nothing", {}, {})
    # What only the analyzer has is refused.
    for beyond in (
        "SELECT MAP_FROM_ARRAY([('a', 1)])",
        "SELECT NEW_UUID()",
        "SELECT L2_NORM([1.0, 2.0])",
        "SELECT CAST('x' AS UUID)",
        "SELECT CAST(1 AS FLOAT32)",
        "SELECT ARRAY_FILTER([1, 2], number -> number > 1)",
    ):
        with pytest.raises(ServerError):
            analyzer.check(beyond, {}, {})


def test_the_variants_use_every_line_of_every_file() -> None:
    """A statement, or a branch of a template, that no variant uses would never be checked."""
    landings = [landing_of(*variant) for variant in VARIANTS]
    scripts = [
        *map(landing_script, landings),
        *(media_script(landing) for landing in landings if landing.media),
        *(script for script, _ in schemas_scripts()),
        *(standing_script(RESULTS, of_jobs=of_jobs) for of_jobs in (True, False)),
        *report_scripts(),
        count_script(RESULTS),
        *(script(tables) for script in (landed_script, replaced_script, rivals_script) for tables in TABLES),
        *(landed_script(tables, by_run=True) for tables in TABLES),
        lock_script(LOCK),
        *(staged_script(MEDIA, names_objects=names) for names in (True, False)),
        objects_script(),
        note_script(OUTPUT),
        usage_query(RESULTS),
    ]
    used = "".join(scripts)
    files = list(Path(statements.__file__).parent.rglob("*.sql"))
    assert files
    for file in files:
        tokens = Environment(autoescape=True).lex(file.read_text(encoding="utf-8"))
        lines = [line.strip() for _, kind, text in tokens if kind == "data" for line in text.splitlines()]
        assert [line for line in lines if line not in used] == [], file.name
    assert not [tag for tag in ("{{", "{%", "%}") if tag in used]


def statements_of_usual_landing(script: str) -> int:
    """How many child jobs a script has if no condition is met: each condition is one, and so is SET."""
    script = re.sub(r"^IF$.*?^END IF;$", "SELECT 1;", script, flags=re.DOTALL | re.MULTILINE)
    script = re.sub(r'r"""\n.*?"""|--[^\n]*', "", script, flags=re.DOTALL)
    statements = [each.strip() for each in re.findall(r"^(.*?);$", script, flags=re.DOTALL | re.MULTILINE)]
    return sum(not each.startswith(("DECLARE", "CREATE TEMP FUNCTION")) for each in statements)


def test_a_usual_landing_has_at_most_twelve_statements() -> None:
    """Each is a job of its own in BigQuery and takes one to two seconds."""
    simple = landing_script(landing_of("objects", "objects", SCHEMA))
    assert statements_of_usual_landing(simple) == 12
    assert statements_of_usual_landing(landing_script(landing_of("objects", "objects", SCHEMA, MANY))) == 12
    assert (
        statements_of_usual_landing(landing_script(landing_of("objects", "objects", SCHEMA, MERGING))) == 16
    )


def test_no_partition_is_read_without_the_condition_that_a_table_requires() -> None:
    """The emulator answers such queries; BigQuery refuses them. TRUNCATE and INSERT read none."""
    scripts = [landing_script(landing_of(*each)) for each in VARIANTS if each[3].get("results_filter")]
    tables = TABLES[-1]
    scripts += [replaced_script(tables), rivals_script(tables), landed_script(tables)]
    for script in scripts:
        for table in (RESULTS, ERRORS):
            read = script.replace(f"INSERT INTO {table.quoted}", "").replace(
                f"TRUNCATE TABLE {table.quoted}", ""
            )
            found = re.findall(rf"{re.escape(table.quoted)}( AS \w+)?\s+WHERE\s+{re.escape(FILTER)}", read)
            assert len(found) == read.count(table.quoted) > 0


def test_values_are_parameters() -> None:
    """The script contains nothing of a user's schema except its names."""
    landing = landing_of("objects", "objects", SCHEMA)
    assert "it's" not in landing_script(landing)
    assert list_parameters(landing)["enum_1"] == ["a", "it's"]
