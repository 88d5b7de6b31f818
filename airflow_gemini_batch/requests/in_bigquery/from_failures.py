"""Build the input of a job that resubmits failed requests, inside BigQuery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import (
    InvalidParameterError,
    LandingError,
    RequestsError,
    TableMismatchError,
)
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.gcs_uri import check_folder
from airflow_gemini_batch.gcp.table_name import check_region, dataset_location, get_table
from airflow_gemini_batch.models import reads_tables
from airflow_gemini_batch.requests.checking.import_check import Limits
from airflow_gemini_batch.requests.in_bigquery.claims import (
    Claims,
    OpenFailures,
    claim_statement,
    open_failures_statement,
    source_models_statement,
)
from airflow_gemini_batch.requests.in_bigquery.jobs import TableJobs
from airflow_gemini_batch.requests.in_bigquery.table_marks import TableMark

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.in_bigquery.claims import Claim
    from airflow_gemini_batch.requests.in_bigquery.statements import Failures

# A job may queue for 3 days, run for 1 and be landed much later, and landing reads its input.
_DAYS = 30
_OTHERWISE = (
    "Use a results table in the job's region: the job then reads a BigQuery table, without staging_uri."
)


@dataclass(frozen=True)
class RetryRequest:
    """A round to build.

    :param claim: the failures that it resubmits
    :param claimed: how many requests the round has claimed before, in an earlier try
    :param staging_uri: ``gs://bucket/prefix`` for JSONL, used if the job cannot read the table
    :param labels_keys: write keys into the requests, as a label
    """

    claim: Claim
    failures: Failures
    claimed: int = 0
    staging_uri: str | None = None
    labels_keys: bool = False


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


def find_failures(failures: Failures, bigquery: bq.Client, location: str) -> tuple[OpenFailures, ...]:
    """Count retryable failures per job, and per round that has claimed them.

    :param location: location of the tables' dataset
    :raises InvalidParameterError: one of the tables does not exist
    :raises TableMismatchError: a table lacks a column
    """
    _check_tables(failures, bigquery)
    claims = Claims(failures.results, bigquery, location)
    statement = open_failures_statement(failures, claims.table if claims.exist() else None)
    found = TableJobs(bigquery, location, "").rows(statement, _parameters(failures))
    given = ({name: value for name, value in row.items() if value is not None} for row in found)
    return tuple(sorted((OpenFailures(**row) for row in given), key=lambda each: (each.job_name, each.round)))


def build_retry(request: RetryRequest, *, bigquery: bq.Client, storage: gcs.Client) -> RetryInput | None:
    """Claim the failures of a round and build its input; ``None`` if other rounds have claimed all.

    Idempotent within a round: a second call changes nothing, while the claim stands.

    :raises TableMismatchError: there is another table with the name of the input
    :raises InvalidParameterError: the job cannot read tables in that location, and ``staging_uri`` is not set
    :raises RequestsError: there are more failures than one job accepts, or a BigQuery job failed
    """
    failures, results = request.failures, request.failures.results
    location = dataset_location(results, bigquery, request.claim.place.location)
    folder = _folder(request, location)
    digest = bigquery_job.digest(request.claim.round, results, failures.errors)
    table = results.sibling(f"{results.table}_retry_{digest}")
    claims = Claims(results, bigquery, location)
    claims.ensure()
    jobs, mark = TableJobs(bigquery, location, digest), TableMark.retry(digest)
    mark.check_replaceable(table, bigquery)

    def holds_claim(job: bq.QueryJob) -> bool:
        return jobs.is_unchanged(table, mark, job) and 0 < request.claimed == jobs.measure(table)[0]

    try:
        labels_keys = request.labels_keys
        statement = claim_statement(failures, claims.table, table, mark, _DAYS, labels_keys=labels_keys)
        given = {**_parameters(failures), **request.claim.parameters}
        jobs.run(jobs.step("retry", statement, holds_claim, given))
        rows, size = jobs.measure(table)
        if not rows:
            return None
        limits = Limits.of(request.claim.place.model)
        if rows > limits.rows or (folder and size > limits.size):
            claims.release(request.claim.round)
            raise RequestsError(
                f"{rows:,} failed requests with {size:,} bytes exceed the limit of one job ({limits.rows:,} "
                f"requests, files of {limits.size:,} bytes). Retry each job alone: map job_name over the "
                "jobs."
            )
        uri = f"bq://{table}"
        if folder:
            # Objects of another claim of the same round are not used again.
            built = bigquery.get_table(str(table)).modified
            content = bigquery_job.digest(digest, built)
            export = TableJobs(bigquery, location, content).export
            otherwise = _OTHERWISE if reads_tables(request.claim.place.model) else ""
            (uri,) = export(table, folder, 1, storage, otherwise=otherwise)
    except LandingError as error:
        raise RequestsError(str(error)) from error
    return RetryInput(uri, table, rows, digest)


def source_models(
    results: TableName, jobs: tuple[str, ...], bigquery: bq.Client, location: str
) -> dict[str, str]:
    """Return the models of jobs by name, from their responses; jobs without one are left out.

    :param location: location of the table's dataset
    """
    found = TableJobs(bigquery, location, "").rows(source_models_statement(results), {"jobs": list(jobs)})
    return {row["job_name"]: row["model"] for row in found}


def _parameters(failures: Failures) -> dict[str, str | list[str]]:
    return {"jobs": list(failures.jobs)} if failures.jobs else {}


def _folder(request: RetryRequest, location: str) -> str | None:
    """Return the folder for JSONL, or ``None`` when the job can read the table."""
    results, place = request.failures.results, request.claim.place
    if reads_tables(place.model):
        try:
            check_region(f"bq://{results}", location, place.location)
        except InvalidParameterError:
            reason = (
                f"a job in {place.location} cannot read tables in dataset {results.dataset_id}, which is in "
                f"{location}"
            )
        else:
            return None
    else:
        reason = f"jobs of {place.model.rpartition('/')[2]} cannot read tables"
    if request.staging_uri is None:
        fix = f"{reason}: give gs://bucket/prefix to write the requests to Cloud Storage instead"
        raise InvalidParameterError("staging_uri", None, fix)
    return f"{check_folder('staging_uri', request.staging_uri)}/requests"


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
