"""The BigQuery jobs that make a table of requests; each runs once, however often it is asked for."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import RequestsError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.gcs_uri import split_uri
from airflow_gemini_batch.requests.in_bigquery.statements import export_statement, measure_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.gcp.table_name import TableName

    Parameters: TypeAlias = Mapping[str, str | list[str]]

_LOSS = "no requests were built"
# Times of tables and of jobs come from different clocks.
_SLACK = timedelta(seconds=1)


class TableJobs:
    """Runs statements under ids that follow from the work.

    :param digest: stands for all that decides what is built: equal work is done once
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
        """Make a step of a statement.

        :param given: query parameters
        """
        stem = f"gemini-batch-requests-{name}-{self.digest}"
        return bigquery_job.Step(stem, partial(self._query, statement, given or {}), is_usable, _LOSS)

    def run(self, *steps: bigquery_job.Step[bq.QueryJob]) -> None:
        """Run steps, side by side.

        :raises LandingError: one of them failed
        """
        bigquery_job.run(self._bigquery, self._location, steps)

    def has_run(self, step: bigquery_job.Step[bq.QueryJob]) -> bool:
        """Whether an earlier try has run a step, and what it made is as it was."""
        return bigquery_job.find(self._bigquery, self._location, step) is not None

    def rows(self, statement: str, given: Parameters | None = None) -> list[dict[str, Any]]:
        """Read what a query gives."""
        job = self._bigquery.query(statement, job_config=_config(given or {}), location=self._location)
        return [dict(row.items()) for row in job.result()]

    def is_there(self, name: TableName, _job: bq.QueryJob) -> bool:
        """Whether a table exists."""
        return self._table(name) is not None

    def is_as_made(self, name: TableName, job: bq.QueryJob) -> bool:
        """Whether a table is still what a job made: neither dropped nor written since."""
        table = self._table(name)
        return bool(table and job.ended and table.modified and table.modified <= job.ended + _SLACK)

    def measure(self, table: TableName) -> tuple[int, int]:
        """Return the number of requests, and how many bytes they have as lines."""
        (row,) = self.rows(measure_statement(table))
        return row["requests"], row["bytes"]

    def export(
        self, table: TableName, folder: str, shards: int, storage: gcs.Client, *, otherwise: str
    ) -> tuple[str, ...]:
        """Write lines, a job's share each; return the patterns of their names.

        :param otherwise: what the user can do when the lines do not come out as they should
        :raises RequestsError: they do not
        """
        uris = [
            f"{folder}/{self.digest}/requests-{shard:05d}-of-{shards:05d}-*.jsonl" for shard in range(shards)
        ]
        self.run(
            *(
                self.step(
                    f"export-{shard}",
                    export_statement(table, uri, shard, shards),
                    partial(_has_objects, storage, uri),
                )
                for shard, uri in enumerate(uris)
            )
        )
        _check_lines(storage, uris[0], otherwise)
        return tuple(uris)

    def _table(self, name: TableName) -> bq.Table | None:
        from google.api_core.exceptions import NotFound

        try:
            return self._bigquery.get_table(str(name))
        except NotFound:
            return None

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
            else bq.ScalarQueryParameter(name, "STRING", value)
            for name, value in given.items()
        ]
    )


def _has_objects(storage: gcs.Client, uri: str, _job: bq.QueryJob) -> bool:
    return _first_object(storage, uri) is not None


def _first_object(storage: gcs.Client, uri: str) -> Any:
    bucket, name = split_uri(uri)
    return next(iter(storage.list_blobs(bucket, prefix=name.split("*")[0], max_results=1)), None)


def _check_lines(storage: gcs.Client, uri: str, otherwise: str) -> None:
    """Look at the first bytes. That a JSON column is exported as JSON, not as text, is written nowhere."""
    blob = _first_object(storage, uri)
    start = blob.download_as_bytes(start=0, end=4096) if blob and blob.size else b""
    if b'"request":{' not in start.replace(b" ", b""):
        raise RequestsError(f"{uri} does not hold requests as JSON objects. {otherwise}")
