"""All statements that build requests: the GoogleSQL analyzer resolves their names and types."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.cost import sample
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.building.build import Defaults
from airflow_gemini_batch.requests.in_bigquery import claims, preflight, statements
from airflow_gemini_batch.requests.in_bigquery.columns import RequestColumns, TableColumn
from airflow_gemini_batch.requests.in_bigquery.rule_conditions import RowConditions
from airflow_gemini_batch.requests.in_bigquery.statements import (
    Failures,
    TableBuild,
    build_statement,
    export_statement,
    files_statement,
    inspect_statement,
    measure_statement,
    parameters,
    stage_statement,
)
from airflow_gemini_batch.requests.in_bigquery.table_marks import TableMark
from airflow_gemini_batch.requests.key_field import KeyField
from tests.statement_size import assert_is_small, depth

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.results.google_sql import GoogleSql

STAGING, REQUESTS, ANSWERS, FAILED, CLAIMS, FILES = (
    TableName("my-project", "my_data", name)
    for name in ("staging", "requests", "answers", "failed", "claims", "files")
)
MARK = TableMark.requests_of("it's a dag", "task", "prod", "0123")
CLAIM = claims.Claim("round", "series", "", 1, "owner", claims.Place("p", "l", "m"), "gs://b/out", ("job",))
OF_CLAIMS = (
    claims.rounds_statement,
    claims.renew_statement,
    claims.record_job_statement,
    claims.release_statement,
)
LEGACY = {"INTEGER": "INT64"}
EXPORT_BY_FILE = ";\n".join(
    (
        files_statement(REQUESTS, FILES, 3, MARK).rstrip(),
        export_statement(FILES, "gs://b/x-*.jsonl", 1, 3, is_by_file=True),
    )
)
QUERY = "SELECT \"it's {{not}} a placeholder\" AS key, 'x' AS prompt ;  "
FULL = Defaults(
    system_instruction="it's",
    generation_config={"temperature": 0, "labels": {"team": "x"}},
    response_schema={"type": "object", "properties": {"a": {"type": "string"}}},
    tools=[{"googleSearch": {"timeRangeFilter": None}}],
    key_label=True,
)
KEY_FIELDS = ("key", "Key.custom-id", "labels.custom-id", "other")


STRICT = "gemini-3.7-flash"


FULL_EMBEDDINGS = Defaults(model="gemini-embedding-001", embedding_config={"title": "it's"})


def variants() -> list[TableBuild]:
    made = []
    for many in (False, True):
        for optional in ((), ("system_instruction",), ("media_uri",), ("media_uri", "media_mime_type")):
            given = [TableColumn(name, "STRING", many) for name in ("prompt", *optional)]
            made.append([TableColumn("key", "STRING"), *given, TableColumn("day", "DATE")])
    made += [[TableColumn("key", "STRING"), TableColumn("request", kind)] for kind in ("JSON", "STRING")]
    return [
        *(
            TableBuild(
                STAGING,
                REQUESTS,
                RequestColumns.of(columns),
                defaults.members(),
                key_label=defaults.key_label,
                model=STRICT,
            )
            for columns in made
            for defaults in (Defaults(), FULL)
        ),
        *variants_of_embeddings(),
    ]


def variants_of_embeddings() -> list[TableBuild]:
    made = [[TableColumn("request", kind)] for kind in ("JSON", "STRING")]
    made += [
        [TableColumn("prompt", "STRING"), *(TableColumn(name, "STRING") for name in optional)]
        for optional in ((), ("title",), ("media_uri", "title"))
    ]
    return [
        TableBuild(
            STAGING,
            REQUESTS,
            RequestColumns.of([TableColumn("key", "STRING"), *columns], are_embeddings=True),
            defaults.members(),
            are_embeddings=True,
        )
        for columns in made
        for defaults in (Defaults(model="gemini-embedding-001"), FULL_EMBEDDINGS)
    ]


def columns_of(build: TableBuild, key: str) -> dict[str, tuple[str, str]]:
    found = {"key": (key, "NULLABLE"), **dict.fromkeys(build.columns.passed, ("DATE", "NULLABLE"))}
    for column in (build.columns.source, *build.columns.optional.values()):
        found[column.name] = (column.type, "REPEATED" if column.is_array else "NULLABLE")
    return found


@pytest.mark.analyzer
@pytest.mark.xdist_group("analyzer")
def test_names_types_and_syntax_of_every_statement_are_those_of_bigquery(analyzer: GoogleSql) -> None:
    """One test, because the analyzer starts slowly and needs a gigabyte of memory."""
    from tests.results.google_sql import sql_type
    from tests.results.test_sql import flat

    text = sql_type("STRING")
    for build in variants():
        for key in ("STRING", "INTEGER"):
            types = {name: sql_type(*kind) for name, kind in columns_of(build, key).items()}
            tables = {str(STAGING): types}
            (inspected,) = analyzer.check(inspect_statement(build), tables, {})
            assert type(inspected).__name__ == "ResolvedQueryStmt"
            (made,) = analyzer.check(
                build_statement(build, MARK), tables, dict.fromkeys(parameters(build), text)
            )
            built = {each.name: each.type.type_kind for each in made.column_definition_list}
            assert list(built)[:2] == ["key", "request"]
            assert (built["key"], built["request"]) == (text.type_kind, sql_type("JSON").type_kind)
    kinds = {column: sql_type(LEGACY.get(kind, kind)) for column, kind, _ in claims.COLUMNS}
    parameters_of_claim = {
        **dict.fromkeys(CLAIM.parameters, text),
        "number": sql_type("INT64"),
        "failed_jobs": sql_type("STRING", "REPEATED"),
        "abandoned": sql_type("STRING", "REPEATED"),
    }
    for jobs in ((), ("one",)):
        failures = Failures(ANSWERS, FAILED, jobs)
        landed = {"key": text, "job_name": text, "landed_at": sql_type("TIMESTAMP")}
        landed["request_fingerprint"] = text
        failed = {**landed, "request": sql_type("JSON"), "retryable": sql_type("BOOL"), "results_table": text}
        tables = {str(ANSWERS): landed, str(FAILED): failed, str(CLAIMS): kinds}
        names = {"jobs": sql_type("STRING", "REPEATED")} if jobs else {}
        names["failed_since"] = sql_type("TIMESTAMP")
        for known in (None, CLAIMS):
            found = flat(claims.open_failures_statement(failures, known))
            assert analyzer.check(found, tables, names)
        claim = claims.claim_statement(failures, CLAIMS, REQUESTS, MARK, 30, labels_keys=bool(jobs))
        *_, made = analyzer.check(flat(claim), tables, {**names, **parameters_of_claim})
        assert [each.name for each in made.column_definition_list] == ["key", "request"]
    for statement in OF_CLAIMS:
        given = dict.fromkeys(("round", "job_name", "retried_job"), text)
        given["series"] = sql_type("STRING", "REPEATED")
        assert analyzer.check(statement(CLAIMS), {str(CLAIMS): kinds}, given)
    responses = {str(ANSWERS): {"job_name": text, "model_version": text}}
    models = claims.source_models_statement(ANSWERS)
    assert analyzer.check(models, responses, {"jobs": sql_type("STRING", "REPEATED")})
    requests = {str(REQUESTS): {"key": text, "request": sql_type("JSON")}}
    answers = {str(ANSWERS): {"key": text, "status": text}}
    assert analyzer.check(measure_statement(REQUESTS), requests, {})
    assert analyzer.check(export_statement(REQUESTS, "gs://b/it's-*.jsonl", 1, 3), requests, {})
    made, _ = analyzer.check(EXPORT_BY_FILE, requests, {})
    assert [each.name for each in made.column_definition_list] == ["file", "key", "request"]
    for request, key in itertools.product(("JSON", "STRING"), ("STRING", "INTEGER", "JSON", None)):
        kinds = {"request": request, **({"key": key} if key else {})}
        tables = {str(REQUESTS): {name: sql_type(kind) for name, kind in kinds.items()}}
        conditions = RowConditions.of(STRICT)
        for field in map(KeyField.parse, KEY_FIELDS):
            counted = preflight.statement(str(REQUESTS), kinds, conditions, field)
            assert analyzer.check(counted, tables, {})
    for request in ("JSON", "STRING"):
        sampled = sample.table_statement(str(REQUESTS), request)
        assert analyzer.check(sampled, {str(REQUESTS): {"request": sql_type(request)}}, {})
    for answered in (None, ANSWERS):
        assert analyzer.check(stage_statement(QUERY, STAGING, MARK, answered), answers, {})


def test_every_file_is_used() -> None:
    build = variants()[0]
    used = [
        stage_statement(QUERY, STAGING, MARK),
        inspect_statement(build),
        build_statement(build, MARK),
        measure_statement(REQUESTS),
        export_statement(REQUESTS, "gs://b/x", 0, 1),
        files_statement(REQUESTS, FILES, 3, MARK),
        preflight.statement(str(REQUESTS), {"request": "JSON"}, RowConditions.of(None)),
        sample.table_statement(str(REQUESTS), "JSON"),
        claims.open_failures_statement(Failures(ANSWERS, FAILED), CLAIMS),
        claims.claim_statement(Failures(ANSWERS, FAILED), CLAIMS, REQUESTS, MARK, 30),
        claims.source_models_statement(ANSWERS),
        *(statement(CLAIMS) for statement in OF_CLAIMS),
    ]
    folders = (Path(module.__file__).parent for module in (statements, sample))
    files = [file for folder in folders for file in folder.glob("*.sql")]
    firsts = {file.read_text(encoding="utf-8").splitlines()[0] for file in files}
    assert {statement.splitlines()[0] for statement in used} <= firsts
    assert firsts <= {line for statement in used for line in statement.splitlines()}


def test_values_are_query_parameters() -> None:
    for build in variants():
        assert "it's" not in build_statement(build, MARK)
        assert "it's" not in inspect_statement(build)
    assert "it's {{not}} a placeholder" in stage_statement(QUERY, STAGING, MARK)


@pytest.mark.parametrize(
    ("files", "ranges"),
    [(3, "0, 3, 1"), (4000, "0, 4000, 1"), (4001, "0, 4002, 2"), (9000, "0, 9000, 3")],
)
def test_a_table_by_file_has_at_most_4000_partitions(files: int, ranges: str) -> None:
    statement = files_statement(REQUESTS, FILES, files, MARK)
    assert f"PARTITION BY RANGE_BUCKET(file, GENERATE_ARRAY({ranges}))" in statement


@pytest.mark.parametrize("source", ["request", "prompt"])
@pytest.mark.parametrize(
    "statement_of", [lambda build: build_statement(build, MARK), inspect_statement], ids=["build", "inspect"]
)
def test_a_statement_grows_with_its_columns_and_defaults_only_in_proportion(
    source: str, statement_of: Callable[[TableBuild], str]
) -> None:
    def statement(defaults: int, passed: int) -> str:
        columns = [TableColumn("key", "STRING"), TableColumn(source, "STRING")]
        columns += [TableColumn(f"a_column_with_a_long_name_{n}", "STRING") for n in range(passed)]
        config = {f"aSetting{n}": n for n in range(defaults)}
        members = Defaults(generation_config=config).members()
        build = TableBuild(STAGING, REQUESTS, RequestColumns.of(columns), members, model=STRICT)
        return statement_of(build)

    small, large, larger = statement(1, 1), statement(30, 300), statement(60, 600)
    assert_is_small(large)
    assert len(large) < 50_000
    assert len(larger) - len(large) <= 1.1 * (len(large) - len(small))
    assert depth(larger) == depth(small)


def test_statements_about_a_table_of_300_columns_are_small() -> None:
    kinds = {f"a_column_with_a_long_name_{number}": "STRING" for number in range(300)}
    kinds |= {"key": "INTEGER", "request": "STRING"}
    for field in map(KeyField.parse, KEY_FIELDS):
        assert_is_small(preflight.statement(str(REQUESTS), kinds, RowConditions.of(STRICT), field))


def test_all_other_statements_are_small() -> None:
    failures = Failures(ANSWERS, FAILED, ("job",))
    statements_of_retries = [
        claims.open_failures_statement(failures, CLAIMS),
        claims.claim_statement(failures, CLAIMS, REQUESTS, MARK, 30, labels_keys=True),
        claims.source_models_statement(ANSWERS),
        *(statement(CLAIMS) for statement in OF_CLAIMS),
    ]
    for statement in (
        *statements_of_retries,
        EXPORT_BY_FILE,
        measure_statement(REQUESTS),
        sample.table_statement(str(REQUESTS), "STRING"),
        stage_statement(QUERY, STAGING, MARK, ANSWERS),
    ):
        assert_is_small(statement)
        assert len(statement) < 10_000
