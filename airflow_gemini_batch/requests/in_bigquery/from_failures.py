"""Failures → the input of a job that asks them again, without moving a row out of BigQuery."""

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
from airflow_gemini_batch.gcp.table_name import dataset_location
from airflow_gemini_batch.jobs.spec import JobSpec, check_region
from airflow_gemini_batch.requests.checking.import_check import MAX_BYTES, MAX_ROWS
from airflow_gemini_batch.requests.in_bigquery.jobs import TableJobs
from airflow_gemini_batch.requests.in_bigquery.statements import count_failures_statement, retry_statement

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.in_bigquery.statements import Failures

# A job may queue for 3 days, run for 1 and be landed long after; landing reads its input.
_DAYS = 30
_OTHERWISE = "Land in a dataset of the job's region: it reads the table itself then, without staging_uri."


@dataclass(frozen=True)
class RetryRequest:
    """What to ask again.

    :param run: stands for the round of the task run: the same round builds once
    :param job_location: where the job will run: it reads tables of that region only
    :param staging_uri: ``gs://bucket/prefix`` to write lines to if it cannot read the table
    """

    run: str
    failures: Failures
    job_location: str
    staging_uri: str | None = None


@dataclass(frozen=True)
class RetryInput:
    """The input of the job.

    :param uri: ``bq://`` table or ``gs://`` pattern
    :param table: that of the same requests, in any case
    :param rows: requests
    :param digest: stands for the round, for names beside this one
    """

    uri: str
    table: TableName
    rows: int
    digest: str


def count_failures(failures: Failures, bigquery: bq.Client, location: str) -> dict[str, int]:
    """Count what may succeed when it is asked again, by the name of its job.

    :param location: of the tables' dataset
    :raises InvalidParameterError: nothing was ever landed in the tables
    :raises TableMismatchError: the error table is of an older release
    """
    _check_tables(failures, bigquery)
    jobs = TableJobs(bigquery, location, "")
    found = jobs.rows(count_failures_statement(failures), _parameters(failures))
    return {row["job_name"]: row["requests"] for row in found}


def build_retry(request: RetryRequest, *, bigquery: bq.Client, storage: gcs.Client) -> RetryInput:
    """Make the input. Doing it again in the same round finds what is there and changes nothing.

    :raises InvalidParameterError: the job cannot read tables of that place, and nothing says where else
    :raises RequestsError: there is more than one job takes, or BigQuery refused
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
        jobs.run(jobs.step("retry", statement, partial(jobs.is_as_made, table), given))
        rows, size = jobs.measure(table)
        if rows > MAX_ROWS or (folder and size > MAX_BYTES):
            raise RequestsError(
                f"{rows:,} failures with {size:,} bytes are more than one job takes ({MAX_ROWS:,} requests; "
                f"files of {MAX_BYTES:,} bytes). Retry job by job: give job_name, mapped over the jobs."
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
    """Where lines go, unless the job reads the table itself."""
    results, staging = request.failures.results, request.staging_uri
    try:
        check_region(JobSpec(results.project, request.job_location, "", (f"bq://{results}",), ""), location)
    except InvalidParameterError as error:
        if staging is None:
            raise InvalidParameterError(
                "staging_uri",
                None,
                f"a job in {request.job_location} does not read tables of the dataset {results.dataset_id}, "
                f"which lies in {location}: give gs://bucket/prefix, where the requests go instead",
            ) from error
    else:
        return None
    return f"{check_folder('staging_uri', staging)}/requests"


def _check_tables(failures: Failures, bigquery: bq.Client) -> None:
    from google.api_core.exceptions import NotFound

    for table, needed in ((failures.results, "key"), (failures.errors, "request")):
        try:
            columns = {field.name for field in bigquery.get_table(str(table)).schema}
        except NotFound:
            raise InvalidParameterError(
                "results_table",
                str(table),
                "it does not exist: land the job's results, then retry its failures",
            ) from None
        if needed not in columns:
            raise TableMismatchError(str(table), [f"column {needed} is not there; land a job again"])
