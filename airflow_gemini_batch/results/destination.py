"""The tables that rows are landed in: their dataset, its location, their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import LocationMismatchError, TableMismatchError
from airflow_gemini_batch.gcp.table_name import dataset_location
from airflow_gemini_batch.results.columns import (
    CLUSTER_COLUMNS,
    PARTITION_COLUMN,
    differences,
    schema_fields,
    widened,
)
from airflow_gemini_batch.results.outputs import Objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.bigquery import Client, Table
    from google.cloud.storage import Client as StorageClient

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.response_schema import Column
    from airflow_gemini_batch.results.outputs import JobTable

# A regional dataset loads from its own region and from a multi-region that contains it.
_MULTI_REGIONS = {"US": ("US-", "NORTHAMERICA-"), "EU": ("EUROPE-",), "ASIA": ("ASIA-",)}


def check_locations(
    table: TableName, location: str, output: Objects | JobTable, bigquery: Client, storage: StorageClient
) -> None:
    """Refuse an output that BigQuery could not read from the dataset's location.

    :raises LocationMismatchError: names both places
    """
    from google.api_core.exceptions import Forbidden

    what = f"Dataset {table.dataset_id}"
    if isinstance(output, Objects):
        try:
            there = (storage.get_bucket(output.bucket).location or "").upper()
        except Forbidden:
            return  # Reading objects does not imply reading the bucket; BigQuery will tell.
        if not can_load(location, there):
            fix = f"Land in a dataset in {there}, or let the job write to a bucket in {location}."
            raise LocationMismatchError(what, location, f"bucket {output.bucket}", there, fix)
    elif (there := dataset_location(output.name, bigquery, location)) != location:
        fix = f"Land in a dataset in {there}."
        raise LocationMismatchError(what, location, f"the job's output {output.name}", there, fix)


def can_load(dataset: str, bucket: str) -> bool:
    """Say whether BigQuery loads into a dataset from a bucket; locations in capitals.

    The US multi-region loads from anywhere. Where we are not sure, such as for dual regions, we let it try.
    """
    if dataset in ("US", bucket) or not bucket:
        return True
    if "-" not in bucket:
        region = _MULTI_REGIONS.get(bucket)
        return region is None or dataset.startswith(region)
    return dataset in _MULTI_REGIONS and bucket.startswith(_MULTI_REGIONS[dataset])


_ATTEMPTS = 10


def ensure_table(name: TableName, columns: Sequence[Column], bigquery: Client) -> Table:
    """Make the table, partitioned and clustered, or add the columns that it lacks; return it.

    All else of a table that exists stays as it is.

    :raises TableMismatchError: when it exists and its columns cannot take the rows; then nothing is changed
    """
    from google.api_core.exceptions import NotFound, PreconditionFailed
    from google.cloud.bigquery import Table, TimePartitioning

    for _ in range(_ATTEMPTS):
        try:
            table = bigquery.get_table(str(name))
        except NotFound:
            wanted = Table(str(name), schema_fields(columns))
            wanted.time_partitioning = TimePartitioning(field=PARTITION_COLUMN)
            wanted.clustering_fields = list(CLUSTER_COLUMNS)
            table = bigquery.create_table(wanted, exists_ok=True)
        schema = widened(columns, table.schema)
        if found := differences(columns, schema):
            raise TableMismatchError(str(name), found)
        if schema == table.schema:
            return table
        table.schema = schema
        try:
            return bigquery.update_table(table, ["schema"])
        except PreconditionFailed:
            continue  # Another landing has just changed it.
    raise TableMismatchError(str(name), [f"it changed {_ATTEMPTS} times while columns were being added"])
