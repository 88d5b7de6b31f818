from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.exceptions import DatasetNotFoundError, LocationMismatchError, TableMismatchError
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.columns import RESULT_COLUMNS, differences, result_columns, schema_fields
from airflow_gemini_batch.results.destination import can_load, check_before_job
from tests.results.lines import answered, asked

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

    from tests.results.conftest import Lander

TAGGED = ResponseSchema.of(
    {"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"}}}}
)


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


def test_differences_name_each_column() -> None:
    from google.cloud.bigquery import SchemaField

    existing = [
        SchemaField("KEY", "STRING"),
        SchemaField("status", "INTEGER"),
        SchemaField("tags", "STRING"),
        SchemaField("own", "STRING", "REQUIRED"),
    ]
    found = differences(result_columns(TAGGED), existing)
    assert "column status is INTEGER NULLABLE, not STRING NULLABLE" in found
    assert "column tags is STRING NULLABLE, not STRING REPEATED" in found
    assert "column own is REQUIRED, but the landing writes no value to it; make it NULLABLE" in found
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
    assert [field.name for field in results.schema][-2:] == ["search_queries", "tags"]
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
