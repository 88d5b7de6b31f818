"""Landing the results of a job, for the results operator, the retry operator and the decorator."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import (
    DatasetNotFoundError,
    KeylessRowsError,
    LocationMismatchError,
    OutputNotFoundError,
    QualityGateError,
    ReportError,
    RowCountError,
    TableMismatchError,
)
from airflow_gemini_batch.jobs.outcome import how_to_run_again
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.landing_options import LandingOptions, LandingValues, result_tables
from airflow_gemini_batch.tasks.links import BatchJobLink
from airflow_gemini_batch.tasks.options import KeyOptions
from airflow_gemini_batch.tasks.wait import connect, fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.results.gates import Gates
    from airflow_gemini_batch.results.landing import LandingRequest
    from airflow_gemini_batch.results.report.facts import ErrorKind
    from airflow_gemini_batch.results.report.location import ReportPlace
    from airflow_gemini_batch.results.retried import RetryManifest
    from airflow_gemini_batch.results.summary import Manifest

log = logging.getLogger(__name__)

# A retry would meet these again; other errors of BigQuery may be transient.
_PERMANENT = (
    DatasetNotFoundError,
    KeylessRowsError,
    LocationMismatchError,
    OutputNotFoundError,
    RowCountError,
    TableMismatchError,
)


@dataclass(frozen=True, kw_only=True)
class Landing(LandingValues):
    """Landing options, checked and resolved against a project.

    :param project: runs the BigQuery jobs
    :param key_field: where the rows of the job have their keys
    """

    options: LandingOptions
    project: str
    destination: TableName
    error_table: TableName
    key_field: str


def check_landing(
    options: LandingOptions,
    hook: GeminiBatchHook,
    destination_table: str,
    project_id: str | None,
    key_field: str = KEY_FIELD,
) -> Landing:
    """Check everything that can be checked without a job.

    :raises InvalidParameterError: a value cannot work
    """
    from airflow_gemini_batch.requests.key_field import KeyField

    values = LandingValues.of(options)
    project = hook.resolve_project(project_id)
    destination, error_table = result_tables(destination_table, options.error_table, project)
    return Landing(
        **vars(values),
        options=options,
        project=project,
        destination=destination,
        error_table=error_table,
        key_field=str(KeyField.parse(key_field)),
    )


def land_results(
    operator: BaseOperator,
    context: Context,
    *,
    job_name: str,
    destination_table: str,
    project_id: str | None,
) -> dict[str, Any]:
    """Land the results of a job, report on them, and check them against the quality gates.

    :param operator: has the attributes of :class:`LandingOptions` and :class:`KeyOptions`
    :return: the manifest; it is in XCom too when the rows are landed and the task fails
    """
    with fail_without_retry(*_PERMANENT):
        name = JobName.parse(job_name)
        hook = connect(operator)
        options, key_field = LandingOptions.of(operator), KeyOptions.of(operator).key_field
        landing = check_landing(options, hook, destination_table, project_id, key_field)
        manifest = land_job(landing, context, hook, hook.get_job(name))
    return passed(manifest, landing.gates, context)


def land_job(
    landing: Landing,
    context: Context,
    hook: GeminiBatchHook,
    job: BatchJob,
    *,
    replaces: tuple[str, ...] = (),
    is_round: bool = False,
) -> Manifest:
    """Land the results of a job and report on them.

    :param job: as just read from the service
    :param replaces: see :class:`LandingRequest`
    :param is_round: a task that resubmits failed requests created the job
    """
    from airflow_gemini_batch.results.landing import LandingRequest, land

    options = landing.options
    request = LandingRequest(
        job=job,
        destination=landing.destination,
        error_table=landing.error_table,
        run=run_identity(context),
        response_schema=landing.response_schema,
        infer_schema=options.response_schema is not False,
        write_mode=landing.write_mode,
        key_field=landing.key_field,
        include_request=options.include_request,
        include_response=options.include_response,
        media=landing.media,
        replaces=replaces,
        prices=landing.prices,
        usage_view=options.usage_view,
    )
    BatchJobLink.persist(context, job.name)
    bigquery, storage = hook.bigquery_client(landing.project), hook.storage_client(landing.project)
    with fail_without_retry(*_PERMANENT):
        try:
            manifest = land(request, bigquery=bigquery, storage=storage)
        except OutputNotFoundError as error:
            again = how_to_run_again(job, is_round=is_round)
            raise OutputNotFoundError(job, f"{error} {again}".rstrip()) from error
        _log(manifest, landing, job, bigquery)
        with _kept(context, manifest):
            try:
                if landing.report:
                    written = _report(landing.report, request, manifest, bigquery, storage)
                    log.info("Report: %s", written)
            finally:
                # Rows that do not add up matter more than a report that fails, and are a reason to read one.
                manifest.check_rows()
    return manifest


def passed(landed: Manifest | RetryManifest, gates: Gates, context: Context) -> dict[str, Any]:
    """Return a manifest that passes the quality gates; otherwise put it into XCom and fail the task."""
    with fail_without_retry(QualityGateError), _kept(context, landed):
        gates.check(landed)
    return landed.to_dict()


def _log(manifest: Manifest, landing: Landing, job: BatchJob, bigquery: bq.Client) -> None:
    """Log what was landed, and warn of rows that did not succeed."""
    from airflow_gemini_batch.results.failures import NOTHING_SUCCEEDED, warnings
    from airflow_gemini_batch.results.report.facts import frequent_errors
    from airflow_gemini_batch.results.row_status import RowStatus

    succeeded = manifest.counts[RowStatus.SUCCEEDED]
    if not succeeded:
        log.warning(NOTHING_SUCCEEDED)
    log.info("%s", manifest)
    log.info("Results: %s", manifest.destination_table)
    if manifest.rows == succeeded:
        return
    errors: tuple[ErrorKind, ...] = ()
    try:
        errors = frequent_errors(job.name, landing.destination, landing.error_table, bigquery)
    except ReportError as failure:
        log.warning("%s", failure)
    for line in warnings(manifest.counts, errors, manifest.error_table):
        log.warning("%s", line)


def _report(
    place: ReportPlace, request: LandingRequest, manifest: Manifest, bigquery: bq.Client, storage: gcs.Client
) -> str:
    """Write the report about what was landed, and return its URI."""
    from airflow_gemini_batch.results.report.facts import report_facts
    from airflow_gemini_batch.results.report.page import render

    facts = report_facts(
        request.job.name,
        request.destination,
        request.error_table,
        bigquery,
        job=request.job,
        manifest=manifest,
    )
    return place.write(render(facts), request.job.name, storage)


@contextmanager
def _kept(context: Context, landed: Manifest | RetryManifest) -> Iterator[None]:
    """Put a manifest into XCom, as if returned, when the task fails although its rows are landed."""
    try:
        yield
    except (QualityGateError, ReportError, RowCountError):
        # Imported here: it costs a DAG file 35 ms.
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

        context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=landed.to_dict())
        raise
