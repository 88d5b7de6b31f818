"""Rows of a query → a table of requests, or lines in Cloud Storage, without moving a row out of BigQuery."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import (
    LandingError,
    LocationMismatchError,
    RequestsError,
    TableMismatchError,
)
from airflow_gemini_batch.gcp.gcs_uri import check_folder
from airflow_gemini_batch.gcp.table_name import dataset_location
from airflow_gemini_batch.jobs.spec import JobSpec, check_region
from airflow_gemini_batch.requests.checking.import_check import MAX_BYTES, MAX_ROWS
from airflow_gemini_batch.requests.in_bigquery.columns import RequestColumns, TableColumn
from airflow_gemini_batch.requests.in_bigquery.counts import check_counts
from airflow_gemini_batch.requests.in_bigquery.jobs import TableJobs
from airflow_gemini_batch.requests.in_bigquery.statements import (
    TableBuild,
    build_statement,
    inspect_statement,
    parameters,
    stage_statement,
)

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.building.build import Defaults

# Keys are spread over shards by hash, so shards differ a little in size.
_SHARE = 0.95


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
    folder = None if request.export_uri is None else check_folder("export_uri", request.export_uri)
    location = dataset_location(request.destination, bigquery, request.job_location)
    if not folder:
        _check_region(request, location)
    _check_destination(request.destination, bigquery)
    work = _Work(request, bigquery, location)
    try:
        if not work.is_built() and not work.build(_existing(request.answered, location, bigquery)):
            return BuiltRequests()
        rows, size = work.jobs.measure(request.destination)
        if not folder:
            return BuiltRequests((f"bq://{request.destination}",), rows)
        otherwise = "Leave out export_uri, use the table."
        shards = _shards(rows, size)
        uris = work.jobs.export(request.destination, folder, shards, storage, otherwise=otherwise)
        return BuiltRequests(uris, rows)
    except LandingError as error:
        raise RequestsError(str(error)) from error


class _Work:
    """The BigQuery jobs of one build; their ids follow from the run and from what is asked."""

    def __init__(self, request: TableRequest, bigquery: bq.Client, location: str) -> None:
        self._request = request
        self._bigquery = bigquery
        self._defaults = request.defaults.members()
        asked = (request.run, request.sql, request.destination, self._defaults, request.answered)
        digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:24]
        self.jobs = TableJobs(bigquery, location, digest)
        self._staging = request.destination.sibling(f"gemini_batch_staging_{digest}_rows")
        self._is_as_built = partial(self.jobs.is_as_made, request.destination)

    def is_built(self) -> bool:
        """Whether an earlier try of this run has made the table, and it is as it was."""
        return self.jobs.has_run(self.jobs.step("build", "", self._is_as_built))

    def build(self, answered: TableName | None) -> bool:
        """Run the user's query, check what it gives, make the table; False when it gives nothing."""
        jobs = self.jobs
        statement = stage_statement(self._request.sql, self._staging, answered)
        jobs.run(jobs.step("stage", statement, partial(jobs.is_there, self._staging)))
        try:
            build = TableBuild(self._staging, self._request.destination, self._columns(), self._defaults)
            (counts,) = jobs.rows(inspect_statement(build))
            if not counts["all_rows"]:
                return False
            check_counts(counts, build, is_exported=bool(self._request.export_uri))
            jobs.run(jobs.step("build", build_statement(build), self._is_as_built, parameters(build)))
        finally:
            # The next try must see data that was mended.
            self._bigquery.delete_table(str(self._staging), not_found_ok=True)
        return True

    def _columns(self) -> RequestColumns:
        schema = self._bigquery.get_table(str(self._staging)).schema
        return RequestColumns.of(
            TableColumn(each.name, each.field_type, each.mode == "REPEATED") for each in schema
        )


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
