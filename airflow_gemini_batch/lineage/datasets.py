"""Names of datasets, as OpenLineage's naming specification and the Google provider write them. Pure.

An object or folder of Cloud Storage is ``gs://bucket`` and its path, a table of BigQuery is ``bigquery`` and
``project.dataset.table``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import is_table_uri
from airflow_gemini_batch.gcp.gcs_uri import split_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.building.manifest import RequestsObject
    from airflow_gemini_batch.requests.response_schema import Column
    from airflow_gemini_batch.results.summary import Manifest

BIGQUERY = "bigquery"
MAX_FILES = 100
"""Of more files, an event names the folders."""

_ROOT = "/"
_WILDCARDS = "*?["


@dataclass(frozen=True)
class Dataset:
    """A table, an object or a folder.

    :param columns: of a table; empty if they are unknown
    :param rows: that the task has written
    :param size: in bytes, that the task has written
    """

    namespace: str
    name: str
    columns: tuple[Column, ...] = ()
    rows: int | None = None
    size: int | None = None


def of_table(table: TableName | str, columns: tuple[Column, ...] = (), rows: int | None = None) -> Dataset:
    """Name a table, ``project.dataset.table``, with or without a leading ``bq://``."""
    return Dataset(BIGQUERY, str(table).removeprefix("bq://"), columns, rows)


def of_uris(uris: Iterable[str]) -> tuple[Dataset, ...]:
    """Name objects, folders and tables. Of a URI with wildcards, the folder before the first is named.

    What is no full name, such as ``bq://project.dataset``, is left out.
    """
    given = [uri for uri in uris if isinstance(uri, str)]
    files = [_path(uri) for uri in given if uri.startswith("gs://")]
    if len(files) > MAX_FILES:
        files = [(bucket, _folder(path)) for bucket, path in files]
    tables = [of_table(uri) for uri in given if is_table_uri(uri)]
    named = [Dataset(f"gs://{bucket}", path or _ROOT) for bucket, path in files if bucket]
    return tuple(dict.fromkeys([*named, *tables]))


def of_objects(objects: Sequence[RequestsObject]) -> tuple[Dataset, ...]:
    """Name objects of requests that a task has written, with their rows and sizes."""
    named = of_uris(each.uri for each in objects)
    if len(named) < len(objects):  # Their folders.
        return named
    return tuple(
        replace(dataset, rows=each.rows, size=each.bytes)
        for dataset, each in zip(named, objects, strict=True)
    )


def of_job(job: BatchJob) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...]]:
    """Name the input and the output of a job.

    The output in Cloud Storage is the folder that the user asked for: each job makes a new folder in it, and
    a dataset that has another name in each run connects no two tasks.
    """
    output = job.output_table or job.output_uri or ""
    return of_uris(job.input_uris), of_uris([output])


def of_landing(manifests: tuple[Manifest, ...]) -> tuple[Dataset, Dataset]:
    """Name the results table and the error table of jobs that were landed, with columns and rows."""
    from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS
    from airflow_gemini_batch.results.row_status import RowStatus

    first = manifests[0]
    rows = sum(each.rows for each in manifests)
    failed = rows - sum(each.counts[RowStatus.SUCCEEDED] for each in manifests)
    columns = (*RESULT_COLUMNS, *map(_undescribed, first.typed_columns))
    return (
        of_table(first.destination_table, columns, rows),
        of_table(first.error_table, ERROR_COLUMNS, failed),
    )


def _undescribed(column: Column) -> Column:
    # The model reads the descriptions in a response schema, so they are part of the prompt.
    return replace(column, description="", fields=tuple(map(_undescribed, column.fields)))


def _path(uri: str) -> tuple[str, str]:
    bucket, path = split_uri(uri)
    if positions := [path.index(each) for each in _WILDCARDS if each in path]:
        path = _folder(path[: min(positions)])
    return bucket, path.strip("/")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
