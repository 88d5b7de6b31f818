"""The destination tables: the location of their dataset, and their columns."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import (
    DatasetNotFoundError,
    LandingError,
    LocationMismatchError,
    TableMismatchError,
)
from airflow_gemini_batch.gcp.bigquery_message import explain_error
from airflow_gemini_batch.gcp.gcs_uri import split_uri
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import (
    TableName,
    dataset_location,
    get_table,
    is_dataset_uri,
    is_same_location,
)
from airflow_gemini_batch.results.columns import (
    CLUSTER_COLUMNS,
    ERROR_COLUMNS,
    PARTITION_COLUMN,
    RESULT_COLUMNS,
    differences,
    schema_fields,
    widened,
)
from airflow_gemini_batch.results.outputs import Objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.cloud.bigquery import Client, Table
    from google.cloud.storage import Client as StorageClient

    from airflow_gemini_batch.requests.response_schema import Column
    from airflow_gemini_batch.results.outputs import JobTable

# What `tables.get` calls that which no statement writes rows to, and what messages call it.
_READ_ONLY = {
    "VIEW": "a view",
    "MATERIALIZED_VIEW": "a materialized view",
    "EXTERNAL": "an external table",
    "SNAPSHOT": "a snapshot of a table",
}
# A regional dataset loads from its own region and from a multi-region that contains it.
_MULTI_REGIONS = {"US": ("US-", "NORTHAMERICA-"), "EU": ("EUROPE-",), "ASIA": ("ASIA-",)}


def location_beside(
    table: TableName, output: str | TableName, job_location: str, bigquery: Client, storage: StorageClient
) -> str:
    """Return the location of a table's dataset.

    :param output: the bucket or the table that a job writes to
    :raises DatasetNotFoundError: there is no dataset; suggests one in the location of the output
    """
    try:
        return dataset_location(table, bigquery, job_location)
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(
            error.dataset, _place_of(output, bigquery, storage) or error.location
        ) from None


def _place_of(output: str | TableName, bigquery: Client, storage: StorageClient) -> str | None:
    """Return where the output of a job is, as BigQuery spells it; ``None`` if unknown."""
    from google.api_core.exceptions import GoogleAPICallError

    try:
        if isinstance(output, TableName):
            return dataset_location(output, bigquery, "")
        there = _spelt(storage.get_bucket(output).location or "")
    except (GoogleAPICallError, DatasetNotFoundError):
        return None
    return there if "-" in there or there in ("US", "EU") else None


def _spelt(location: str) -> str:
    """Return the location of a bucket as BigQuery spells it."""
    return location.lower() if "-" in location else location


def check_locations(
    table: TableName,
    location: str,
    outputs: Sequence[Objects | JobTable],
    bigquery: Client,
    storage: StorageClient,
) -> None:
    """Check that BigQuery can read the output of jobs from the dataset's location.

    :raises LocationMismatchError: it cannot; names both locations
    """
    from google.api_core.exceptions import Forbidden

    for bucket in sorted({each.bucket for each in outputs if isinstance(each, Objects)}):
        with suppress(
            Forbidden
        ):  # Access to objects does not include access to the bucket. BigQuery decides.
            _check_bucket(table, location, bucket, storage)
    tables = {each.name.dataset_id: each.name for each in outputs if not isinstance(each, Objects)}
    for name in tables.values():
        there = dataset_location(name, bigquery, location)
        _check_dataset(table, location, f"the job's output {name}", there)


def check_before_job(
    tables: tuple[TableName, TableName],
    columns: Sequence[Column],
    output_uri: str,
    job_location: str,
    bigquery: Client,
    storage: StorageClient,
) -> None:
    """Check, as far as it can be known before a job, that its results can be landed. Changes nothing.

    :param tables: for the results and for the rows that did not succeed
    :param columns: of the results table
    :param output_uri: where the job writes
    :raises DatasetNotFoundError: the dataset of a table does not exist
    :raises LocationMismatchError: the dataset cannot read what the job writes
    :raises TableMismatchError: a table exists with incompatible columns, or is a view or an external table
    :raises google.api_core.exceptions.Forbidden: no permission to look
    """
    table, errors = tables
    # Of an output table, only the dataset matters.
    written: str | TableName = split_uri(output_uri)[0]
    if output_uri.startswith("bq://"):
        written = TableName.parse(f"{output_uri}.any" if is_dataset_uri(output_uri) else output_uri)
    location = location_beside(table, written, job_location, bigquery, storage)
    if errors.dataset_id != table.dataset_id:
        there = location_beside(errors, written, job_location, bigquery, storage)
        _check_dataset(table, location, f"the error table {errors}", there)
    if isinstance(written, str):
        _check_bucket(table, location, written, storage)
    else:
        there = dataset_location(written, bigquery, job_location)
        _check_dataset(table, location, f"the job's output {output_uri}", there)
    check_columns(table, columns, bigquery)
    check_columns(errors, ERROR_COLUMNS, bigquery)


def _check_bucket(table: TableName, location: str, bucket: str, storage: StorageClient) -> None:
    there = storage.get_bucket(bucket).location or ""
    if not can_load(location, there):
        there = _spelt(there)
        fix = f"Land in a dataset in {there}, or let the job write to a bucket in {location}."
        raise LocationMismatchError(f"Dataset {table.dataset_id}", location, f"bucket {bucket}", there, fix)


def _check_dataset(table: TableName, location: str, what: str, there: str) -> None:
    if not is_same_location(there, location):
        fix = f"Land in a dataset in {there}."
        raise LocationMismatchError(f"Dataset {table.dataset_id}", location, what, there, fix)


def can_load(dataset: str, bucket: str) -> bool:
    """Whether BigQuery can load into a dataset from a bucket.

    The US multi-region loads from anywhere. If unsure, as for dual regions, return true: BigQuery decides.

    :param dataset: location of the dataset
    :param bucket: location of the bucket; empty if unknown
    """
    dataset, bucket = dataset.upper(), bucket.upper()
    if dataset in ("US", bucket) or not bucket:
        return True
    if "-" not in bucket:
        region = _MULTI_REGIONS.get(bucket)
        return region is None or dataset.startswith(region)
    return dataset in _MULTI_REGIONS and bucket.startswith(_MULTI_REGIONS[dataset])


def can_query(dataset: str, bucket: str) -> bool:
    """Whether a query in a dataset's location can read objects of a bucket.

    Other than a load, a query in the US multi-region reads only from the US. If unsure, return true.

    :param dataset: location of the dataset
    :param bucket: location of the bucket; empty if unknown
    """
    there = bucket.upper()
    is_elsewhere = there in ("EU", "ASIA") or ("-" in there and not there.startswith(_MULTI_REGIONS["US"]))
    return can_load(dataset, bucket) and not (dataset.upper() == "US" and is_elsewhere)


def not_queryable(
    location: str, places: Iterable[Objects | JobTable | None], storage: StorageClient
) -> tuple[str, str] | None:
    """Return a bucket, and its location, that a load into the dataset can read and a query cannot."""
    from google.api_core.exceptions import GoogleAPICallError

    # Elsewhere, a query reads what a load reads.
    if location.upper() != "US":
        return None
    uris = (uri for place in places if isinstance(place, Objects) for uri in place.uris)
    for bucket in sorted({split_uri(uri)[0] for uri in uris}):
        # Access to objects does not include access to the bucket. BigQuery decides.
        with suppress(GoogleAPICallError):
            there = storage.get_bucket(bucket).location or ""
            if not can_query(location, there):
                return bucket, there
    return None


_ATTEMPTS = 10


def ensure_table(name: TableName, columns: Sequence[Column], bigquery: Client) -> Table:
    """Create the table, partitioned and clustered, or add missing columns to it; return it.

    Nothing else of an existing table changes.

    :raises TableMismatchError: its columns are incompatible, or it is a view or an external table; then
        nothing was changed
    """
    from google.cloud.bigquery import Table, TimePartitioning

    for _ in range(_ATTEMPTS):
        table = get_table(bigquery, name)
        if table is None:
            wanted = Table(str(name), schema_fields(columns))
            wanted.time_partitioning = TimePartitioning(field=PARTITION_COLUMN)
            wanted.clustering_fields = list(CLUSTER_COLUMNS)
            table = bigquery.create_table(wanted, exists_ok=True)
        _check(name, table, columns)
        if complete := _widen(table, columns, bigquery):
            return complete
    raise _unsettled(name)


def check_columns(name: TableName, columns: Sequence[Column], bigquery: Client) -> None:
    """Check that rows with these columns can be written to a table, if it exists.

    :raises TableMismatchError: its columns are incompatible, or it is a view or an external table
    """
    if table := get_table(bigquery, name):
        _check(name, table, columns)


_RESULTS, _ERRORS = ({column.name for column in columns} for columns in (RESULT_COLUMNS, ERROR_COLUMNS))
# What only a table of this kind has, and what only one of the other kind has.
_KINDS = {
    "results": (_RESULTS - _ERRORS, _ERRORS - _RESULTS),
    "error": (_ERRORS - _RESULTS, _RESULTS - _ERRORS),
}


def _check(name: TableName, table: Table, columns: Sequence[Column]) -> None:
    if kind := _READ_ONLY.get(table.table_type or ""):
        raise TableMismatchError(str(name), [f"it is {kind}, and no rows can be written to it; name a table"])
    wanted, there = (
        {column.name.lower() for column in columns},
        {field.name.lower() for field in table.schema},
    )
    if not wanted & there:
        raise TableMismatchError(str(name), ["it has none of their columns; name another table"])
    for kind, (own, others) in _KINDS.items():
        if own <= there and not own <= wanted and not others <= there:
            raise TableMismatchError(str(name), [f"it is the {kind} table of a landing; name another table"])
    if found := differences(columns, widened(columns, table.schema)):
        raise TableMismatchError(str(name), found)


def add_columns(name: TableName, columns: Sequence[Column], bigquery: Client) -> None:
    """Add the columns that a table of an earlier version lacks, if the table exists.

    :raises TableMismatchError: others change the table all the time
    """
    for _ in range(_ATTEMPTS):
        table = get_table(bigquery, name)
        if table is None or _widen(table, columns, bigquery):
            return
    raise _unsettled(name)


def _widen(table: Table, columns: Sequence[Column], bigquery: Client) -> Table | None:
    """Add missing columns; ``None`` if another task has changed the table at the same time."""
    from google.api_core.exceptions import PreconditionFailed

    schema = widened(columns, table.schema)
    if schema == table.schema:
        return table
    table.schema = schema
    try:
        return bigquery.update_table(table, ["schema"])
    except PreconditionFailed:
        return None


def _unsettled(name: TableName) -> TableMismatchError:
    return TableMismatchError(str(name), [f"it changed {_ATTEMPTS} times while columns were being added"])


_FIRST = {"DATE": "DATE '0001-01-01'", "DATETIME": "DATETIME '0001-01-01'"}


def partition_filter(table: Table) -> str:
    """Return a condition that all rows meet, if the table refuses queries without one on its partitions."""
    by_time, by_range = table.time_partitioning, table.range_partitioning
    # The API has it in two places; the client warns of one of them.
    resource = table.to_api_repr()
    places = (resource, resource.get("timePartitioning") or {})
    is_required = any(place.get("requirePartitionFilter") for place in places)
    if not is_required or not (by_time or by_range):
        return ""
    if by_range:
        return f"(`{by_range.field}` >= {-(2**62)} OR `{by_range.field}` IS NULL)"
    if not by_time.field:
        return "_PARTITIONTIME >= TIMESTAMP '0001-01-01'"
    kind = next(field.field_type for field in table.schema if field.name == by_time.field)
    first = _FIRST.get(kind, "TIMESTAMP '0001-01-01'")
    if by_time.field == PARTITION_COLUMN:
        return f"{PARTITION_COLUMN} >= {first}"
    return f"(`{by_time.field}` >= {first} OR `{by_time.field}` IS NULL)"


def lock_of(results: TableName) -> TableName:
    """Name the table with the row that landings change in turn."""
    return results.sibling(f"{results.table}_landing_lock")


def lock_script(lock: TableName) -> str:
    """Return the statement that creates the table named by :func:`lock_of`."""
    return render("results/lock", lock=lock)


def create_table(statement: str, name: TableName, bigquery: Client, location: str) -> None:
    """Run ``CREATE TABLE IF NOT EXISTS`` for a table that is missing; several workers may do so at once.

    :raises LandingError: the table does not exist afterwards
    """
    from google.api_core.exceptions import GoogleAPICallError

    if get_table(bigquery, name):
        return
    try:
        bigquery.query(statement, location=location).result()
    except GoogleAPICallError as error:
        if get_table(bigquery, name) is None:
            raise LandingError(f"BigQuery could not create table {name}: {explain_error(error)}") from None
