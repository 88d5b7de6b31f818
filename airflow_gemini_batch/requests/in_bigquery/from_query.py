"""Build requests from a query inside BigQuery: a table, or JSONL in Cloud Storage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import (
    InvalidParameterError,
    LandingError,
    LocationMismatchError,
    RequestsError,
)
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.gcs_uri import check_folder
from airflow_gemini_batch.gcp.table_name import (
    check_region,
    dataset_location,
    get_table,
    is_same_location,
)
from airflow_gemini_batch.models import GLOBAL, reads_tables
from airflow_gemini_batch.requests.building.embeddings import warn_of_titles
from airflow_gemini_batch.requests.checking.import_check import Limits
from airflow_gemini_batch.requests.checking.shared_values import check_shared
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
from airflow_gemini_batch.requests.in_bigquery.table_marks import TableMark
from airflow_gemini_batch.requests.request_fields import TITLE

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.building.build import Defaults

# A hash of the key assigns rows to shards, so shards differ slightly in size.
_SHARE = 0.95
_OTHERWISE = "Leave out export_uri and use the table as input."


@dataclass(frozen=True)
class TableRequest:
    """A table of requests to build.

    :param run: identifies the task run; the same run builds only once
    :param dag_id: with ``task_id`` and ``installation``, names the task whose runs may replace the table
    :param sql: a query that returns ``key`` and either ``prompt`` or ``request``
    :param answered: a results table; keys that succeeded there are left out
    :param export_uri: ``gs://bucket/prefix`` to export the requests to as JSONL
    :param job_location: location of the batch job, which only reads tables in the same region; ``global`` if
        unknown
    """

    run: str
    dag_id: str
    task_id: str
    installation: str
    sql: str
    destination: TableName
    defaults: Defaults
    answered: TableName | None = None
    export_uri: str | None = None
    job_location: str = GLOBAL


@dataclass(frozen=True)
class BuiltRequests:
    """The requests that were built.

    :param uris: one input per batch job: one ``bq://`` table, or ``gs://`` patterns; empty when the query
        returned no new rows
    :param rows: number of requests in total
    """

    uris: tuple[str, ...] = ()
    rows: int = 0


def build_table(request: TableRequest, *, bigquery: bq.Client, storage: gcs.Client) -> BuiltRequests:
    """Build the requests. Idempotent within a task run: a second call changes nothing.

    :raises InvalidParameterError: a batch job would refuse the rows or columns
    :raises TableMismatchError: the destination exists, and is not a table of requests that this task built
    :raises RequestsError: a BigQuery job failed
    """
    folder = None if request.export_uri is None else check_folder("export_uri", request.export_uri)
    location = dataset_location(request.destination, bigquery, request.job_location)
    if not folder:
        _check_model(request.defaults)
        check_region(f"bq://{request.destination}", location, request.job_location)
    if request.answered == request.destination:
        fix = "it is destination_table, which is replaced: give the table in which results are landed"
        raise InvalidParameterError("only_new_against", str(request.answered), fix)
    work = _Work(request, bigquery, location)
    work.check_tables()
    try:
        if not work.is_built() and not work.build(_existing(request.answered, location, bigquery)):
            return BuiltRequests()
        rows, size = work.jobs.measure(request.destination)
        if not folder:
            return BuiltRequests((f"bq://{request.destination}",), rows)
        otherwise = "" if request.defaults.are_embeddings else _OTHERWISE
        shards = _shards(rows, size, _limits(request.defaults))
        uris = work.jobs.export(request.destination, folder, shards, storage, otherwise=otherwise)
        return BuiltRequests(uris, rows)
    except LandingError as error:
        raise RequestsError(str(error)) from error


class _Work:
    """The BigQuery jobs of one build; their IDs derive from the run and the request."""

    def __init__(self, request: TableRequest, bigquery: bq.Client, location: str) -> None:
        self._request = request
        self._bigquery = bigquery
        self._defaults = request.defaults.members()
        check_shared(self._defaults, request.defaults.model)
        digest = bigquery_job.digest(
            *(request.run, request.sql, request.destination),
            *((self._defaults, request.defaults.key_label), request.answered),
            *(("embeddings",) if request.defaults.are_embeddings else ()),
        )
        self.jobs = TableJobs(bigquery, location, digest)
        self._staging = request.destination.sibling(f"gemini_batch_staging_{digest}_rows")
        self._mark = TableMark.requests_of(request.dag_id, request.task_id, request.installation, digest)
        self._staging_mark = TableMark.staging(digest)
        self._is_unchanged = partial(self.jobs.is_unchanged, request.destination, self._mark)

    def check_tables(self) -> None:
        """Check that the tables to create replace nothing but what this task has made.

        :raises TableMismatchError: they would
        """
        self._mark.check_replaceable(self._request.destination, self._bigquery)
        self._staging_mark.check_replaceable(self._staging, self._bigquery)

    def is_built(self) -> bool:
        """Whether an earlier attempt of this run built the table and it is unchanged."""
        return self.jobs.has_run(self.jobs.step("build", "", self._is_unchanged))

    def build(self, answered: TableName | None) -> bool:
        """Run the user's query, check its rows and build the table; False when there are no rows."""
        jobs = self.jobs
        statement = stage_statement(self._request.sql, self._staging, self._staging_mark, answered)
        jobs.run(jobs.step("stage", statement, partial(jobs.exists, self._staging)))
        try:
            request, columns = self._request, self._columns()
            build = TableBuild(
                self._staging,
                request.destination,
                columns,
                self._defaults,
                are_embeddings=request.defaults.are_embeddings,
                key_label=request.defaults.key_label,
                model=request.defaults.model,
            )
            (counts,) = jobs.rows(inspect_statement(build))
            if not counts["all_rows"]:
                return False
            check_counts(counts, build, _limits(request.defaults), is_exported=bool(request.export_uri))
            jobs.run(
                jobs.step("build", build_statement(build, self._mark), self._is_unchanged, parameters(build))
            )
        finally:
            # The next attempt must see data that was fixed in the meantime.
            self._bigquery.delete_table(str(self._staging), not_found_ok=True)
        return True

    def _columns(self) -> RequestColumns:
        schema = self._bigquery.get_table(str(self._staging)).schema
        defaults = self._request.defaults
        columns = RequestColumns.of(
            (TableColumn(each.name, each.field_type, each.mode == "REPEATED") for each in schema),
            are_embeddings=defaults.are_embeddings,
        )
        if TITLE in columns.optional:
            warn_of_titles(defaults.model)
        return columns


def _existing(answered: TableName | None, location: str, bigquery: bq.Client) -> TableName | None:
    """Return the results table if it exists yet."""
    if answered is None:
        return None
    answered_location = dataset_location(answered, bigquery, location)
    if not is_same_location(answered_location, location):
        fix = "A query can only read tables in one location."
        raise LocationMismatchError(
            f"Results table {answered}", answered_location, "the destination", location, fix
        )
    return answered if get_table(bigquery, answered) else None


def _check_model(defaults: Defaults) -> None:
    """Refuse to build a table for a model whose jobs read none."""
    if defaults.are_embeddings or (defaults.model and not reads_tables(defaults.model)):
        name = defaults.model or "an embedding model"
        fix = f"jobs of {name} read only files in Cloud Storage: give gs://bucket/prefix"
        raise InvalidParameterError("export_uri", None, fix)


def _limits(defaults: Defaults) -> Limits:
    return Limits.of(defaults.model, is_embedding=defaults.are_embeddings)


def _shards(rows: int, size: int, limits: Limits) -> int:
    if rows <= limits.rows and size <= limits.size:
        return 1
    return int(max(rows / limits.rows, size / limits.size) / _SHARE) + 1
