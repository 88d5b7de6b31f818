from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.exceptions import DatasetNotFoundError, LocationMismatchError, TableMismatchError
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.columns import (
    ERROR_COLUMNS,
    RESULT_COLUMNS,
    differences,
    result_columns,
    schema_fields,
    widened,
)
from airflow_gemini_batch.results.destination import (
    can_load,
    can_query,
    check_before_job,
    not_queryable,
)
from airflow_gemini_batch.results.landing import WriteMode
from airflow_gemini_batch.results.outputs import Objects
from tests.results.lines import answered, asked
from tests.variants import variant
from tests.wire import Refuse, watched

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

    from tests.results.conftest import Lander

TAGGED = ResponseSchema.of(
    {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}}}}
)


def test_where_a_query_reads_from(lander: Lander) -> None:
    """A load into the US multi-region reads from anywhere, a query only from the US."""
    assert can_load("US", "EU")
    assert [can_query("US", each) for each in ("EU", "ASIA", "EUROPE-WEST4")] == [False] * 3
    assert all(can_query("US", each) for each in ("US", "US-EAST1", "us-central1", "NAM4", ""))
    assert can_query("EU", "EUROPE-WEST4")
    assert not can_query("EU", "US")
    # The emulator's buckets have no location of their own.
    far: Any = SimpleNamespace(get_bucket=lambda _name: SimpleNamespace(location="EU"))
    there = [Objects((("gs://far/a.jsonl", 1),))]
    assert not_queryable("US", there, far) == ("far", "EU")
    assert not_queryable("EU", there, far) is None
    assert not_queryable("US", there, lander.storage) is None


@pytest.mark.parametrize(
    ("place", "suggested"),
    [
        ("EUROPE-WEST4", "europe-west4"),
        ("EU", "EU"),
        ("US", "US"),
        ("ASIA", "europe-west1"),
        ("", "europe-west1"),
    ],
)
def test_a_missing_dataset_is_suggested_where_the_output_is(
    bigquery_client: bigquery.Client, place: str, suggested: str
) -> None:
    # The emulator's buckets have no location of their own.
    storage: Any = SimpleNamespace(get_bucket=lambda _name: SimpleNamespace(location=place))
    tables = TableName("local-project", "gone", "answers"), TableName("local-project", "gone", "errors")
    with pytest.raises(
        DatasetNotFoundError, match=f"bq --location={suggested} mk --dataset local-project:gone"
    ):
        check_before_job(tables, RESULT_COLUMNS, "gs://bucket/out", "europe-west1", bigquery_client, storage)


def test_a_missing_dataset_is_suggested_where_the_output_table_is(
    bigquery_client: bigquery.Client, regional: str, storage_client: storage.Client
) -> None:
    tables = TableName("local-project", "gone", "answers"), TableName("local-project", "gone", "errors")
    for uri in (f"bq://{regional}", f"bq://{regional}.out"):
        with pytest.raises(DatasetNotFoundError, match="--location=us-central1 "):
            check_before_job(tables, RESULT_COLUMNS, uri, "global", bigquery_client, storage_client)


@pytest.mark.parametrize(
    ("dataset", "bucket", "possible"),
    [
        ("US", "EUROPE-WEST4", True),  # the US multi-region loads from anywhere
        ("EU", "EUROPE-WEST4", True),
        ("EU", "US-CENTRAL1", False),
        ("US-CENTRAL1", "US-CENTRAL1", True),
        ("US-CENTRAL1", "US", True),
        ("US-CENTRAL1", "US-EAST1", False),
        ("US-CENTRAL1", "EU", False),
        ("EUROPE-WEST4", "EU", True),
        ("EUROPE-WEST4", "EUR4", True),  # dual region: BigQuery decides
        ("EUROPE-WEST4", "", True),
    ],
)
def test_where_a_dataset_can_load_from(dataset: str, bucket: str, possible: bool) -> None:
    assert can_load(dataset, bucket) is possible
    assert can_load(dataset.lower(), bucket) is possible


def test_differences_name_each_column() -> None:
    from google.cloud.bigquery import SchemaField

    existing = [
        SchemaField("KEY", "STRING"),
        SchemaField("status", "INTEGER"),
        SchemaField("tags", "STRING"),
        SchemaField("own", "STRING", "REQUIRED"),
        SchemaField("made_at", "TIMESTAMP", "REQUIRED", default_value_expression="CURRENT_TIMESTAMP()"),
    ]
    found = differences(result_columns(TAGGED), existing)
    assert "column status is INTEGER NULLABLE, not STRING NULLABLE" in found
    assert "column tags is STRING NULLABLE, not STRING REPEATED" in found
    required = (
        "column own is REQUIRED, but the landing writes no value to it; make it NULLABLE, or give it a "
    )
    assert f"{required}default value" in found
    assert not any("made_at" in each for each in found)
    assert "column text (STRING NULLABLE) is missing; add it" in found
    assert not any(" KEY " in each or " key " in each for each in found)
    assert differences(RESULT_COLUMNS, schema_fields(RESULT_COLUMNS)) == []


def test_tables_are_created_partitioned_and_clustered(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(answered("a", '{"tags": ["x"]}'))
    lander.land(TAGGED)
    for name in (lander.destination, lander.error_table):
        table = lander.bigquery.get_table(str(name))
        assert table.time_partitioning.field == "landed_at"
        assert table.time_partitioning.type_ == "DAY"
        assert table.clustering_fields == ["job_name", "key"]
    results = lander.bigquery.get_table(str(lander.destination))
    assert [field.name for field in results.schema][-2:] == ["source_uri", "tags"]
    assert lander.tables() == {"results", "results_errors", "results_usage"}  # no staging table is left


def test_an_existing_table_may_have_other_columns(lander: Lander) -> None:
    from google.cloud.bigquery import SchemaField, Table

    own = SchemaField("note", "STRING")
    lander.bigquery.create_table(Table(str(lander.destination), [own, *schema_fields(RESULT_COLUMNS)]))
    lander.put_input(asked("a"))
    lander.put_output(answered("a"))
    lander.land()
    assert lander.rows()["a"]["note"] is None


def test_missing_columns_are_added_and_nothing_else_changes(lander: Lander) -> None:
    """Including a fixed column that a table of an earlier version lacks."""
    from google.cloud.bigquery import Table, TimePartitioning

    fields = [field for field in schema_fields(RESULT_COLUMNS) if field.name != "response"]
    made = Table(str(lander.destination), fields)
    made.time_partitioning = TimePartitioning(field="landed_at", expiration_ms=90 * 86_400_000)
    made.clustering_fields = ["key"]
    made.labels = {"team": "search"}
    made.description = "Ours"
    lander.bigquery.create_table(made)
    before = lander.bigquery.get_table(str(lander.destination)).to_api_repr()
    lander.put_input(asked("a"))
    lander.put_output(answered("a", '{"tags": ["x"]}'))
    lander.land(TAGGED)
    assert lander.rows()["a"]["tags"] == ["x"]
    after = lander.bigquery.get_table(str(lander.destination)).to_api_repr()
    assert after["schema"]["fields"][: len(fields)] == before["schema"]["fields"]
    assert [field["name"] for field in after["schema"]["fields"][len(fields) :]] == ["response", "tags"]
    kept = ("timePartitioning", "clustering", "labels", "description", "creationTime")
    assert {name: after.get(name) for name in kept} == {name: before.get(name) for name in kept}


def test_a_column_of_another_type_is_refused_before_anything_changes(lander: Lander) -> None:
    from google.cloud.bigquery import SchemaField, Table

    fields = [*schema_fields(RESULT_COLUMNS), SchemaField("tags", "STRING")]
    lander.bigquery.create_table(Table(str(lander.destination), fields))
    lander.put_input(asked("a"))
    lander.put_output(answered("a", '{"tags": []}'))
    more = {"tags": {"type": "array", "items": {"type": "string"}}, "new": {"type": "string"}}
    with pytest.raises(
        TableMismatchError, match="column tags is STRING NULLABLE, not STRING REPEATED"
    ) as caught:
        lander.land(ResponseSchema.of({"type": "object", "properties": more}))
    assert caught.value.table == str(lander.destination)
    assert len(lander.bigquery.get_table(str(lander.destination)).schema) == len(fields)
    assert lander.tables() == {"results"}


def test_a_foreign_table_is_not_changed(lander: Lander) -> None:
    from google.cloud.bigquery import SchemaField, Table

    lander.bigquery.create_table(Table(str(lander.destination), [SchemaField("key", "STRING")]))
    lander.put_input(asked("a"))
    lander.put_output(answered("a"))
    with pytest.raises(TableMismatchError, match=r"column text \(STRING NULLABLE\) is missing"):
        lander.land()
    assert len(lander.bigquery.get_table(str(lander.destination)).schema) == 1


def test_a_dataset_that_does_not_exist(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(answered("a"))
    lander.dataset = "local-project.nowhere"
    with pytest.raises(
        DatasetNotFoundError, match="bq --location=us-central1 mk --dataset local-project:nowhere"
    ):
        lander.land()


@pytest.mark.parametrize("which", ["results", "results_errors"])
@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("VIEW", "it is a view"),
        ("MATERIALIZED_VIEW", "it is a materialized view"),
        ("EXTERNAL", "it is an external table"),
        ("SNAPSHOT", "it is a snapshot of a table"),
    ],
)
def test_what_takes_no_rows_is_refused_before_the_job(
    lander: Lander, which: str, kind: str, named: str
) -> None:
    """Also when it has all columns."""
    tables = (lander.destination, lander.error_table)
    fields = RESULT_COLUMNS if which == "results" else ERROR_COLUMNS
    resource = {
        "tableReference": {"projectId": "p", "datasetId": "d", "tableId": which},
        "type": kind,
        "schema": {"fields": [field.to_api_repr() for field in schema_fields(fields)]},
    }
    answer = Refuse(
        lambda call: call.url.partition("?")[0].endswith(f"/tables/{which}"),
        status=200,
        content=json.dumps(resource).encode(),
    )
    with watched(answer), pytest.raises(TableMismatchError, match=f"{which} .*{named}, and no rows"):
        check_before_job(
            tables,
            RESULT_COLUMNS,
            f"gs://{lander.bucket}/out",
            "us-central1",
            lander.bigquery,
            lander.storage,
        )
    assert answer.refused == 1


def test_a_landing_refuses_a_view(lander: Lander) -> None:
    from google.cloud.bigquery import Table

    lander.put_input(asked("a"))
    lander.put_output(answered("a"))
    lander.land()
    name = str(lander.destination.sibling("latest"))
    view = Table(name)
    view.view_query = f"SELECT * FROM {lander.destination.quoted}"
    lander.bigquery.create_table(view)
    with pytest.raises(TableMismatchError, match="latest cannot store these rows: it is a view"):
        lander.land(destination=TableName.parse(name))


def layouts() -> dict[str, dict[str, Any]]:
    """Layouts of tables, as the API has them."""
    return {
        "none": {},
        "clustered only": {"clustering": {"fields": ["status", "model_version"]}},
        "by hour": {"timePartitioning": {"type": "HOUR", "field": "landed_at"}},
        "by month of another column": {"timePartitioning": {"type": "MONTH", "field": "processed_at"}},
        "by time of arrival": {"timePartitioning": {"type": "DAY"}},
        "by number": {
            "rangePartitioning": {
                "field": "prompt_tokens",
                "range": {"start": "0", "end": "1000", "interval": "10"},
            }
        },
    }


@pytest.mark.parametrize("layout", [variant(each) if each.startswith("by") else each for each in layouts()])
def test_a_table_keeps_its_layout_and_what_its_columns_say(lander: Lander, layout: str) -> None:
    """Rows land and land again whatever the layout, and columns that are added change no others."""
    from google.cloud.bigquery import SchemaField, Table

    fields = [field.to_api_repr() for field in schema_fields(RESULT_COLUMNS) if field.name != "response"]
    own = {
        "name": "order",
        "type": "STRING",
        "mode": "NULLABLE",
        "description": "Ours",
        "policyTags": {"names": ["projects/p/locations/us/taxonomies/1/policyTags/2"]},
    }
    reference = lander.destination
    resource = {
        "tableReference": {
            "projectId": reference.project,
            "datasetId": reference.dataset,
            "tableId": reference.table,
        },
        "schema": {"fields": [own, *fields]},
        **layouts()[layout],
    }
    lander.bigquery.create_table(Table.from_api_repr(resource))
    before = lander.bigquery.get_table(str(reference)).to_api_repr()
    lander.put_input(asked("a"))
    lander.put_output(answered("a", '{"tags": ["x"]}'))
    for mode in (WriteMode.APPEND, WriteMode.MERGE, WriteMode.TRUNCATE):
        lander.land(TAGGED, mode)
        assert lander.rows()["a"]["tags"] == ["x"]
    after = lander.bigquery.get_table(str(reference)).to_api_repr()
    for name in ("timePartitioning", "rangePartitioning", "clustering"):
        assert after.get(name) == before.get(name)
    # The stand-in keeps no policy tags, so what would be sent is checked.
    existing = [SchemaField.from_api_repr(field) for field in resource["schema"]["fields"]]
    sent = [field.to_api_repr() for field in widened(result_columns(TAGGED), existing)]
    assert sent[: len(existing)] == [field.to_api_repr() for field in existing]
    assert sent[0] == own
    assert [field["name"] for field in sent[len(existing) :]] == ["response", "tags"]


def test_columns_whose_names_differ_in_case_are_the_same(lander: Lander) -> None:
    """Those that are fixed, those of the schema, and fields of a RECORD."""
    from google.cloud.bigquery import SchemaField, Table

    schema = ResponseSchema.of(
        {
            "type": "object",
            "properties": {
                "Select": {"type": "string"},
                "Status": {"type": "string"},
                "detail": {"type": "object", "properties": {"From": {"type": "integer"}}},
            },
        }
    )
    fixed = [
        SchemaField(each.name.upper(), each.field_type, each.mode) for each in schema_fields(RESULT_COLUMNS)
    ]
    typed = [
        SchemaField("SELECT", "STRING"),
        SchemaField("ANSWER_STATUS", "STRING"),
        SchemaField("DETAIL", "RECORD", fields=[SchemaField("FROM", "INTEGER")]),
    ]
    lander.bigquery.create_table(Table(str(lander.destination), [*typed, *fixed]))
    lander.put_input(asked("a"))
    lander.put_output(answered("a", '{"Select": "x", "Status": "y", "detail": {"From": 7}}'))
    for mode in (WriteMode.APPEND, WriteMode.MERGE):
        lander.land(schema, mode)
        (row,) = lander.query(f"SELECT * FROM {lander.destination.quoted}")
        assert (row["KEY"], row["STATUS"]) == ("a", "succeeded")
        assert (row["SELECT"], row["ANSWER_STATUS"], row["DETAIL"]) == ("x", "y", {"FROM": 7})


RESERVED_WORDS = ("select", "from", "group", "order", "all", "struct", "interval", "end", "exists", "with")


def test_columns_may_be_reserved_words(lander: Lander) -> None:
    properties: dict[str, Any] = {name: {"type": "integer"} for name in RESERVED_WORDS}
    properties["array"] = {"type": "array", "items": {"type": "object", "properties": dict(properties)}}
    schema = ResponseSchema.of({"type": "object", "properties": properties})
    values: dict[str, Any] = {name: number for number, name in enumerate(RESERVED_WORDS)}
    lander.put_input(asked("a"))
    lander.put_output(answered("a", json.dumps({**values, "array": [values]})))
    for mode in (WriteMode.APPEND, WriteMode.MERGE):
        lander.land(schema, mode)
        row = lander.rows()["a"]
        assert row["status"] == "succeeded"
        assert {name: row[name] for name in RESERVED_WORDS} == values
        assert row["array"] == [values]


@pytest.mark.parametrize(
    ("output", "error_dataset", "complaint"),
    [
        ("gs://{bucket}/out", "{dataset}", None),
        ("bq://{dataset}", "{dataset}", None),
        ("bq://{dataset}.answers", "{dataset}", None),
        ("bq://{regional}", "{dataset}", LocationMismatchError),
        ("gs://{bucket}/out", "{regional}", LocationMismatchError),
        ("gs://{bucket}/out", "{dataset}_gone", DatasetNotFoundError),
    ],
)
def test_what_is_known_before_the_job(
    bucket: str,
    dataset: str,
    regional: str,
    bigquery_client: bigquery.Client,
    storage_client: storage.Client,
    output: str,
    error_dataset: str,
    complaint: type[Exception] | None,
) -> None:
    names = {"bucket": bucket, "dataset": dataset, "regional": regional}
    tables = (
        TableName.parse(f"{dataset}.answers"),
        TableName.parse(f"{error_dataset.format(**names)}.errors"),
    )
    with pytest.raises(complaint) if complaint else nullcontext():
        check_before_job(
            tables, RESULT_COLUMNS, output.format(**names), "us-central1", bigquery_client, storage_client
        )
    assert not list(bigquery_client.list_tables(dataset))
