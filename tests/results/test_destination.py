from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lines import answered, asked

from airflow_gemini_batch.exceptions import DatasetNotFoundError, ResponseSchemaError, TableMismatchError
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.columns import RESULT_COLUMNS, differences, result_columns, schema_fields
from airflow_gemini_batch.results.destination import can_load

if TYPE_CHECKING:
    from conftest import Lander

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
def test_what_a_dataset_can_load_from(dataset: str, bucket: str, possible: bool) -> None:
    assert can_load(dataset, bucket) is possible


@pytest.mark.parametrize("name", ["text", "Key", "JOB_NAME"])
def test_a_property_may_not_take_the_name_of_a_fixed_column(name: str) -> None:
    schema = ResponseSchema.of({"type": "object", "properties": {name: {"type": "string"}}})
    with pytest.raises(ResponseSchemaError, match=rf"\$\.properties\.{name}.*rename") as caught:
        result_columns(schema)
    assert caught.value.path == f"$.properties.{name}"


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
    assert "column own is REQUIRED and nothing would be written to it" in found
    assert "column text (STRING NULLABLE) is not there; add it" in found
    assert not any(" KEY " in each or " key " in each for each in found)
    assert differences(RESULT_COLUMNS, schema_fields(RESULT_COLUMNS)) == []


def test_tables_are_made_partitioned_and_clustered(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(answered("a", '{"tags": ["x"]}'))
    lander.land(TAGGED)
    for name in (lander.destination, lander.error_table):
        table = lander.bigquery.get_table(str(name))
        assert table.time_partitioning.field == "landed_at"
        assert table.time_partitioning.type_ == "DAY"
        assert table.clustering_fields == ["job_name", "key"]
    results = lander.bigquery.get_table(str(lander.destination))
    assert [field.name for field in results.schema][-2:] == ["landed_at", "tags"]
    assert lander.tables() == {"results", "results_errors"}  # no staging is left


def test_a_table_of_the_user_may_have_columns_of_its_own(lander: Lander) -> None:
    from google.cloud.bigquery import SchemaField, Table

    own = SchemaField("note", "STRING")
    lander.bigquery.create_table(Table(str(lander.destination), [own, *schema_fields(RESULT_COLUMNS)]))
    lander.put_input(asked("a"))
    lander.put_output(answered("a"))
    lander.land()
    assert lander.rows()["a"]["note"] is None


def test_a_table_that_lacks_a_column_is_refused_before_anything_is_written(lander: Lander) -> None:
    from google.cloud.bigquery import Table

    lander.bigquery.create_table(Table(str(lander.destination), schema_fields(RESULT_COLUMNS)))
    lander.put_input(asked("a"))
    lander.put_output(answered("a", '{"tags": []}'))
    with pytest.raises(TableMismatchError, match=r"column tags \(STRING REPEATED\) is not there") as caught:
        lander.land(TAGGED)
    assert caught.value.table == str(lander.destination)
    assert lander.rows() == {}


def test_a_dataset_that_does_not_exist(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(answered("a"))
    lander.dataset = "local-project.nowhere"
    with pytest.raises(
        DatasetNotFoundError, match="bq --location=us-central1 mk --dataset local-project:nowhere"
    ):
        lander.land()
