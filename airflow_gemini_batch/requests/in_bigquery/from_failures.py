"""Build the input of a job that resubmits failed requests, inside BigQuery."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import (
    InvalidParameterError,
    LandingError,
    RequestsError,
    TableMismatchError,
)
from airflow_gemini_batch.gcp.gcs_uri import check_folder
from airflow_gemini_batch.gcp.table_name import dataset_location, get_table
from airflow_gemini_batch.jobs.spec import JobSpec, check_region
from airflow_gemini_batch.requests.checking.import_check import MAX_BYTES, MAX_ROWS
from airflow_gemini_batch.requests.in_bigquery.jobs import TableJobs
from airflow_gemini_batch.requests.in_bigquery.statements import count_failures_statement, retry_statement

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.in_bigquery.statements import Failures

# A job may queue for 3 days, run for 1 and be landed much later, and landing reads its input.
_DAYS = 30
_OTHERWISE = (
    "Use a results table in the job's region: the job then reads a BigQuery table, without staging_uri."
)


@dataclass(frozen=True)
class RetryRequest:
    """Failed requests to resubmit.

    :param run: identifies the round within the task run; the same round is built only once
    :param job_location: location of the new job, which only reads tables in the same region
    :param staging_uri: ``gs://bucket/prefix`` for JSONL, used if the job cannot read the table
    """

    run: str
    failures: Failures
    job_location: str
    staging_uri: str | None = None


@dataclass(frozen=True)
class RetryInput:
    """The input of the new job.

    :param uri: ``bq://`` table or ``gs://`` pattern
    :param table: table with the same requests, also when ``uri`` is in Cloud Storage
    :param rows: number of requests
    :param digest: identifies the round, for deriving other names
    """

    uri: str
    table: TableName
    rows: int
    digest: str


def count_failures(failures: Failures, bigquery: bq.Client, location: str) -> dict[str, int]:
    """Count retryable failures per job name.

    :param location: location of the tables' dataset
    :raises InvalidParameterError: one of the tables does not exist
    :raises TableMismatchError: a table lacks a column
    """
    _check_tables(failures, bigquery)
    jobs = TableJobs(bigquery, location, "")
    found = jobs.rows(count_failures_statement(failures), _parameters(failures))
    return {row["job_name"]: row["requests"] for row in found}


def build_retry(request: RetryRequest, *, bigquery: bq.Client, storage: gcs.Client) -> RetryInput:
    """Build the input. Idempotent within a round: a second call changes nothing.

    :raises InvalidParameterError: the job cannot read tables in that location, and ``staging_uri`` is not set
    :raises RequestsError: there are more failures than one job accepts, or a BigQuery job failed
    """
    results = request.failures.results
    location = dataset_location(results, bigquery, request.job_location)
    folder = _folder(request, location)
    digest = hashlib.sha256(repr((request.run, results, request.failures.errors)).encode()).hexdigest()[:24]
    table = results.sibling(f"{results.table}_retry_{digest}")
    jobs = TableJobs(bigquery, location, digest)
    try:
        statement = retry_statement(request.failures, table, _DAYS)
        given = _parameters(request.failures)
        jobs.run(jobs.step("retry", statement, partial(jobs.is_unchanged, table), given))
        rows, size = jobs.measure(table)
        if rows > MAX_ROWS or (folder and size > MAX_BYTES):
            raise RequestsError(
                f"{rows:,} failed requests with {size:,} bytes exceed the limit of one job ({MAX_ROWS:,} "
                f"requests, files of {MAX_BYTES:,} bytes). Retry each job alone: map job_name over the jobs."
            )
        uri = f"bq://{table}"
        if folder:
            (uri,) = jobs.export(table, folder, 1, storage, otherwise=_OTHERWISE)
    except LandingError as error:
        raise RequestsError(str(error)) from error
    return RetryInput(uri, table, rows, digest)


def _parameters(failures: Failures) -> dict[str, str | list[str]]:
    return {"jobs": list(failures.jobs)} if failures.jobs else {}


def _folder(request: RetryRequest, location: str) -> str | None:
    """Return the folder for JSONL, or ``None`` when the job can read the table."""
    results, staging = request.failures.results, request.staging_uri
    try:
        check_region(JobSpec(results.project, request.job_location, "", (f"bq://{results}",), ""), location)
    except InvalidParameterError as error:
        if staging is None:
            raise InvalidParameterError(
                "staging_uri",
                None,
                f"a job in {request.job_location} cannot read tables in dataset {results.dataset_id}, which "
                f"is in {location}: give gs://bucket/prefix to write the requests to Cloud Storage instead",
            ) from error
    else:
        return None
    return f"{check_folder('staging_uri', staging)}/requests"


def _check_tables(failures: Failures, bigquery: bq.Client) -> None:
    for name, needed in ((failures.results, "key"), (failures.errors, "request")):
        table = get_table(bigquery, name)
        if table is None:
            raise InvalidParameterError(
                "results_table",
                str(name),
                "it does not exist: land the job's results first, then retry its failures",
            )
        if needed not in {field.name for field in table.schema}:
            raise TableMismatchError(str(name), [f"column {needed} is missing; land a job again to add it"])
