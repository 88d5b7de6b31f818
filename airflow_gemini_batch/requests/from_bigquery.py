"""Rows of a query → a table of requests, or lines in Cloud Storage, without moving a row out of BigQuery."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch import once
from airflow_gemini_batch.exceptions import (
    InvalidParameterError,
    LandingError,
    LocationMismatchError,
    RequestsError,
    TableMismatchError,
)
from airflow_gemini_batch.jobs.spec import GCS_PREFIX, JobSpec, check_region
from airflow_gemini_batch.objects import split_uri
from airflow_gemini_batch.requests.importer_rules import MAX_BYTES, MAX_ROWS
from airflow_gemini_batch.requests.table_columns import RequestColumns, TableColumn
from airflow_gemini_batch.requests.table_counts import check_counts
from airflow_gemini_batch.requests.table_statements import (
    TableBuild,
    build_statement,
    export_statement,
    inspect_statement,
    measure_statement,
    parameters,
    stage_statement,
)
from airflow_gemini_batch.tables import dataset_location

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.requests.build import Defaults
    from airflow_gemini_batch.tables import TableName

# Keys are spread over shards by hash, so shards differ a little in size.
_SHARE = 0.95
_LOSS = "no requests were built"
# Times of tables and of jobs come from different clocks.
_SLACK = timedelta(seconds=1)


@dataclass(frozen=True)
class TableRequest:
    """What to build.

    :param run: stands for the task run: the same run builds once
    :param sql: gives ``key`` and either ``prompt`` or ``request``
    :param answered: a results table; keys that succeeded there are left out
    :param export_uri: ``gs://bucket/prefix`` to write lines to as well
    :param job_location: where the job will run: it reads tables of that region only; ``global`` if not known
    """

    run: str
    sql: str
    destination: TableName
    defaults: Defaults
    answered: TableName | None = None
    export_uri: str | None = None
    job_location: str = "global"


@dataclass(frozen=True)
class BuiltRequests:
    """What was built.

    :param uris: the input of a job each: one ``bq://`` table, or ``gs://`` patterns; empty when there is
        nothing new to ask
    :param rows: requests in all
    """

    uris: tuple[str, ...] = ()
    rows: int = 0


def build_table(request: TableRequest, *, bigquery: bq.Client, storage: gcs.Client) -> BuiltRequests:
    """Build the requests. Doing it again in the same run finds what is there and changes nothing.

    :raises InvalidParameterError: rows or columns that no job takes, before anything is submitted
    :raises TableMismatchError: the destination is a table of something else
    :raises RequestsError: BigQuery refused
    """
    _check_export(request.export_uri)
    location = dataset_location(request.destination, bigquery, request.job_location)
    if not request.export_uri:
        _check_region(request, location)
    _check_destination(request.destination, bigquery)
    work = _Work(request, bigquery, location)
    try:
        if not work.is_built() and not work.build(_existing(request.answered, location, bigquery)):
            return BuiltRequests()
        rows, size = work.measure()
        if not request.export_uri:
            return BuiltRequests((f"bq://{request.destination}",), rows)
        uris = work.export(request.export_uri.rstrip("/"), _shards(rows, size), storage)
        return BuiltRequests(uris, rows)
    except LandingError as error:
        raise RequestsError(str(error)) from error


class _Work:
    """The BigQuery jobs of one build; their ids follow from the run and from what is asked."""

    def __init__(self, request: TableRequest, bigquery: bq.Client, location: str) -> None:
        self._request = request
        self._bigquery = bigquery
        self._location = location
        self._defaults = request.defaults.members()
        asked = (request.run, request.sql, request.destination, self._defaults, request.answered)
        self._digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:24]
        self._staging = request.destination.sibling(f"gemini_batch_staging_{self._digest}_rows")

    def is_built(self) -> bool:
        """Whether an earlier try of this run has made the table, and it is as it was."""
        job = once.find(self._bigquery, self._location, self._step("build", "", self._is_as_built))
        return job is not None

    def build(self, answered: TableName | None) -> bool:
        """Run the user's query, check what it gives, make the table; False when it gives nothing."""
        statement = stage_statement(self._request.sql, self._staging, answered)
        self._run(self._step("stage", statement, partial(_is_there, self._bigquery, self._staging)))
        try:
            build = TableBuild(self._staging, self._request.destination, self._columns(), self._defaults)
            counts = self._first_row(inspect_statement(build))
            if not counts["all_rows"]:
                return False
            check_counts(counts, build, is_exported=bool(self._request.export_uri))
            self._run(self._step("build", build_statement(build), self._is_as_built, parameters(build)))
        finally:
            # The next try must see data that was mended.
            self._bigquery.delete_table(str(self._staging), not_found_ok=True)
        return True

    def measure(self) -> tuple[int, int]:
        """Return the number of requests, and how many bytes they have as lines."""
        row = self._first_row(measure_statement(self._request.destination))
        return row["requests"], row["bytes"]

    def export(self, folder: str, shards: int, storage: gcs.Client) -> tuple[str, ...]:
        """Write lines, a job's share each; return the patterns of their names."""
        uris = [
            f"{folder}/{self._digest}/requests-{shard:05d}-of-{shards:05d}-*.jsonl" for shard in range(shards)
        ]
        steps = [
            self._step(
                f"export-{shard}",
                export_statement(self._request.destination, uri, shard, shards),
                partial(_has_objects, storage, uri),
            )
            for shard, uri in enumerate(uris)
        ]
        self._run(*steps)
        _check_lines(storage, uris[0])
        return tuple(uris)

    def _columns(self) -> RequestColumns:
        schema = self._bigquery.get_table(str(self._staging)).schema
        return RequestColumns.of(
            TableColumn(each.name, each.field_type, each.mode == "REPEATED") for each in schema
        )

    def _first_row(self, statement: str) -> dict[str, Any]:
        (row,) = self._bigquery.query(statement, location=self._location).result()
        return dict(row.items())

    def _step(
        self,
        name: str,
        statement: str,
        is_usable: Callable[[bq.QueryJob], bool],
        given: Mapping[str, str] | None = None,
    ) -> once.Step[bq.QueryJob]:
        stem = f"gemini-batch-requests-{name}-{self._digest}"
        return once.Step(stem, partial(self._query, statement, given or {}), is_usable, _LOSS)

    def _run(self, *steps: once.Step[bq.QueryJob]) -> None:
        once.run(self._bigquery, self._location, steps)

    def _is_as_built(self, job: bq.QueryJob) -> bool:
        """Whether the table is still what the job made: neither dropped nor written since."""
        from google.api_core.exceptions import NotFound

        try:
            table = self._bigquery.get_table(str(self._request.destination))
        except NotFound:
            return False
        return bool(job.ended and table.modified and table.modified <= job.ended + _SLACK)

    def _query(self, statement: str, given: Mapping[str, str], job_id: str) -> bq.QueryJob:
        from google.cloud import bigquery as bq

        config = bq.QueryJobConfig(
            query_parameters=[bq.ScalarQueryParameter(name, "STRING", value) for name, value in given.items()]
        )
        return self._bigquery.query(
            statement, job_config=config, job_id=job_id, location=self._location, job_retry=None
        )


def _check_export(uri: str | None) -> None:
    if uri is not None and not (isinstance(uri, str) and GCS_PREFIX.fullmatch(uri) and "*" not in uri):
        raise InvalidParameterError("export_uri", uri, "give gs://bucket/prefix")


def _check_region(request: TableRequest, location: str) -> None:
    """What the submit operator would refuse, refused before anything is built."""
    table = request.destination
    spec = JobSpec(table.project, request.job_location, "", (f"bq://{table}",), "")
    check_region(spec, location)


def _check_destination(name: TableName, bigquery: bq.Client) -> None:
    """What stands there is replaced, so it must be a table of requests."""
    from google.api_core.exceptions import NotFound

    try:
        columns = {field.name for field in bigquery.get_table(str(name)).schema}
    except NotFound:
        return
    if not {"key", "request"} <= columns:
        raise TableMismatchError(
            str(name), ["it is no table of requests, which has 'key' and 'request', and would be replaced"]
        )


def _existing(answered: TableName | None, location: str, bigquery: bq.Client) -> TableName | None:
    """The results table, if it has been made yet."""
    from google.api_core.exceptions import NotFound

    if answered is None:
        return None
    there = dataset_location(answered, bigquery, location)
    if there != location:
        fix = "A query reads tables of one location only."
        raise LocationMismatchError(f"Results table {answered}", there, "the destination", location, fix)
    try:
        bigquery.get_table(str(answered))
    except NotFound:
        return None
    return answered


def _shards(rows: int, size: int) -> int:
    if rows <= MAX_ROWS and size <= MAX_BYTES:
        return 1
    return int(max(rows / MAX_ROWS, size / MAX_BYTES) / _SHARE) + 1


def _is_there(bigquery: bq.Client, name: TableName, _job: bq.QueryJob) -> bool:
    from google.api_core.exceptions import NotFound

    try:
        bigquery.get_table(str(name))
    except NotFound:
        return False
    return True


def _has_objects(storage: gcs.Client, uri: str, _job: bq.QueryJob) -> bool:
    return _first_object(storage, uri) is not None


def _first_object(storage: gcs.Client, uri: str) -> Any:
    bucket, name = split_uri(uri)
    return next(iter(storage.list_blobs(bucket, prefix=name.split("*")[0], max_results=1)), None)


def _check_lines(storage: gcs.Client, uri: str) -> None:
    """Look at the first bytes. That a JSON column is exported as JSON, not as text, is written nowhere."""
    blob = _first_object(storage, uri)
    start = blob.download_as_bytes(start=0, end=4096) if blob else b""
    if b'"request":{' not in start.replace(b" ", b""):
        raise RequestsError(
            f"{uri} does not hold requests as JSON objects. Leave out export_uri, use the table."
        )
