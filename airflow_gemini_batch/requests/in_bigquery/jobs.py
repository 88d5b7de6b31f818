"""The BigQuery jobs that build a table of requests; all are idempotent."""

from __future__ import annotations

import uuid
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import RequestsError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.gcs_uri import split_uri
from airflow_gemini_batch.gcp.table_name import get_table
from airflow_gemini_batch.requests.in_bigquery.statements import (
    export_statement,
    files_statement,
    measure_statement,
)
from airflow_gemini_batch.requests.in_bigquery.table_marks import TableMark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.gcp.table_name import TableName

    Parameters: TypeAlias = Mapping[str, str | int | list[str]]

_LOSS = "no requests were built"
# To read the requests once for each of so many files costs no more than to sort them by file.
_FEW_FILES = 2
# Both times are BigQuery's, but a table's modification and its job's end are not the same moment.
_SLACK = timedelta(seconds=1)


class TableJobs:
    """Runs statements under job IDs derived from the work.

    :param digest: hash of everything that determines the result; work with the same hash runs only once
    """

    def __init__(self, bigquery: bq.Client, location: str, digest: str) -> None:
        self._bigquery = bigquery
        self._location = location
        self.digest = digest

    def step(
        self,
        name: str,
        statement: str,
        is_usable: Callable[[bq.QueryJob], bool],
        given: Parameters | None = None,
    ) -> bigquery_job.Step[bq.QueryJob]:
        """Describe a statement as an idempotent job.

        :param name: distinguishes the steps of one build
        :param is_usable: whether the result of a finished job still exists unchanged
        :param given: query parameters
        """
        stem = f"gemini-batch-requests-{name}-{self.digest}"
        return bigquery_job.Step(stem, partial(self._query, statement, given or {}), is_usable, loss=_LOSS)

    def run(self, *steps: bigquery_job.Step[bq.QueryJob]) -> None:
        """Run steps in parallel.

        :raises LandingError: one of them failed
        """
        bigquery_job.run(self._bigquery, self._location, steps)

    def has_run(self, step: bigquery_job.Step[bq.QueryJob]) -> bool:
        """Whether an earlier attempt ran a step and its result is unchanged."""
        return bigquery_job.find(self._bigquery, self._location, step) is not None

    def rows(self, statement: str, given: Parameters | None = None) -> list[dict[str, Any]]:
        """Run a query and return its rows."""
        job = self._bigquery.query(statement, job_config=_config(given or {}), location=self._location)
        return [dict(row.items()) for row in job.result()]

    def write(self, statement: str, given: Parameters) -> list[dict[str, Any]]:
        """Run a statement that changes rows, again if a transaction is in its way; return what it selects.

        :raises LandingError: it failed
        """
        step = self.step(f"write-{uuid.uuid4().hex}", statement, lambda _: True, given)
        (job,) = bigquery_job.run(self._bigquery, self._location, [step])
        return [dict(row.items()) for row in job.result(job_retry=None)]

    def exists(self, name: TableName, _job: bq.QueryJob) -> bool:
        """Whether a table exists."""
        return get_table(self._bigquery, name) is not None

    def is_unchanged(self, name: TableName, mark: TableMark, job: bq.QueryJob) -> bool:
        """Whether a table is as a job wrote it: neither deleted, replaced nor modified since."""
        table = get_table(self._bigquery, name)
        if not (table and job.ended and table.modified):
            return False
        return mark.is_on(table) and table.modified <= job.ended + _SLACK

    def measure(self, table: TableName) -> tuple[int, int]:
        """Return the number of requests and their size in bytes as JSONL."""
        (row,) = self.rows(measure_statement(table))
        return row["requests"], row["bytes"]

    def export(
        self, table: TableName, folder: str, shards: int, storage: gcs.Client, *, otherwise: str
    ) -> tuple[str, ...]:
        """Export requests as JSONL, one set of objects per batch job; return a URI pattern for each set.

        However many sets there are, the requests are read at most twice.

        :param shards: number of batch jobs
        :param otherwise: the user's alternative, for the error message
        :raises RequestsError: BigQuery did not export requests as JSON objects
        """
        uris = [
            f"{folder}/{self.digest}/requests-{shard:05d}-of-{shards:05d}-*.jsonl" for shard in range(shards)
        ]
        modified = self._bigquery.get_table(str(table)).modified
        content = bigquery_job.digest(self.digest, modified)
        files = table.sibling(f"gemini_batch_staging_{content}_files") if shards > _FEW_FILES else None
        exports = [
            self.step(
                f"export-{shard}",
                export_statement(files or table, uri, shard, shards, is_by_file=bool(files)),
                partial(_has_objects, storage, uri),
            )
            for shard, uri in enumerate(uris)
        ]
        if files and not all(map(self.has_run, exports)):
            statement = files_statement(table, files, shards, TableMark.staging(self.digest))
            self.run(self.step(f"files-{content}", statement, partial(self.exists, files)))
        self.run(*exports)
        if files:
            self._bigquery.delete_table(str(files), not_found_ok=True)
        _check_lines(storage, uris, otherwise)
        return tuple(uris)

    def _query(self, statement: str, given: Parameters, job_id: str) -> bq.QueryJob:
        return self._bigquery.query(
            statement, job_config=_config(given), job_id=job_id, location=self._location, job_retry=None
        )


def _config(given: Parameters) -> bq.QueryJobConfig:
    from google.cloud import bigquery as bq

    return bq.QueryJobConfig(
        query_parameters=[
            bq.ArrayQueryParameter(name, "STRING", value)
            if isinstance(value, list)
            else bq.ScalarQueryParameter(name, "INT64" if isinstance(value, int) else "STRING", value)
            for name, value in given.items()
        ]
    )


def _has_objects(storage: gcs.Client, uri: str, _job: bq.QueryJob) -> bool:
    return next(_objects(storage, uri), None) is not None


def _objects(storage: gcs.Client, uri: str) -> Iterator[Any]:
    bucket, name = split_uri(uri)
    return iter(storage.list_blobs(bucket, prefix=name.split("*")[0]))


def _check_lines(storage: gcs.Client, uris: Sequence[str], otherwise: str) -> None:
    """Check the first bytes: nothing documents that a JSON column is exported as JSON, not as a string.

    BigQuery may write empty objects beside those with lines.
    """
    blobs = (blob for uri in uris for blob in _objects(storage, uri) if blob.size)
    first = next(blobs, None)
    start = first.download_as_bytes(start=0, end=4096) if first else b""
    if b'"request":{' not in start.replace(b" ", b""):
        raise RequestsError(f"BigQuery did not write requests to {uris[0]} as JSON objects. {otherwise}")
