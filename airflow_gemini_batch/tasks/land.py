"""Landing the results of a job, for the results operator, the retry operator and the decorator."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import (
    DatasetNotFoundError,
    InvalidParameterError,
    KeylessRowsError,
    LocationMismatchError,
    OutputNotFoundError,
    QualityGateError,
    ReportError,
    RowCountError,
    TableMismatchError,
)
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.jobs.outcome import how_to_run_again
from airflow_gemini_batch.jobs.reading import read_jobs
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.assets import record_landing
from airflow_gemini_batch.tasks.landing_options import LandingOptions, LandingValues, result_tables
from airflow_gemini_batch.tasks.links import COST_KEY, BatchJobLink, OutputLink, ReportLink, store_tables
from airflow_gemini_batch.tasks.observed import observe_landing
from airflow_gemini_batch.tasks.options import KeyOptions
from airflow_gemini_batch.tasks.wait import connect, fail_without_retry, job_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.results.gates import Gates, Landed
    from airflow_gemini_batch.results.landing import LandingRequest
    from airflow_gemini_batch.results.report.facts import ErrorKind
    from airflow_gemini_batch.results.report.location import ReportPlace
    from airflow_gemini_batch.results.summary import LandedJobs, Manifest
    from airflow_gemini_batch.tasks.landing_wait import LandingWait

log = logging.getLogger(__name__)

_MOST_NAMED = 3
_REPORTS_AT_ONCE = 8

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
    parameter: str = "destination_table",
) -> Landing:
    """Check everything that can be checked without a job.

    :param parameter: that names the table
    :raises InvalidParameterError: a value cannot work
    """
    from airflow_gemini_batch.requests.key_field import KeyField

    values = LandingValues.of(options)
    project = hook.resolve_project(project_id)
    destination, error_table = result_tables(destination_table, options.error_table, project, parameter)
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
    job_name: object,
    destination_table: str,
    project_id: str | None,
    event: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Land the results of one or more jobs, report on them, and check them against the quality gates.

    :param operator: has the attributes of :class:`LandingOptions`, :class:`KeyOptions` and
        :class:`DeferOptions`
    :param job_name: a name, or several, which are landed by one script
    :param event: with which the task resumes, if it was deferred while it landed
    :return: the manifest; it is in XCom too when the rows are landed and the task fails
    """
    from airflow_gemini_batch.tasks.landing_wait import lands_in_triggerer

    landed: Manifest | LandedJobs
    with fail_without_retry(*_PERMANENT):
        names = job_names(job_name)
        hook = connect(operator)
        options, key_field = LandingOptions.of(operator), KeyOptions.of(operator).key_field
        landing = check_landing(options, hook, destination_table, project_id, key_field)
        is_one = isinstance(job_name, str)
        if landing.report and not is_one and not landing.report.is_folder:
            fix = "each job that is landed has a report of its own; give a folder, which ends with /"
            raise InvalidParameterError("report_uri", landing.report.uri, fix)
        with lands_in_triggerer(operator, event, job_name=job_name if is_one else None) as wait:
            jobs = (hook.get_job(names[0]),) if is_one else read_jobs(hook, names)
            if is_one:
                landed = land_job(landing, context, hook, jobs[0], wait)
            else:
                landed = land_jobs(landing, context, hook, jobs, wait)
    manifest = passed(landed, landing.gates, context)
    record_landing(operator, context, manifest, inputs=[uri for job in jobs for uri in job.input_uris])
    return manifest


def land_job(
    landing: Landing,
    context: Context,
    hook: GeminiBatchHook,
    job: BatchJob,
    wait: LandingWait,
    *,
    replaces: tuple[str, ...] = (),
    is_round: bool = False,
) -> Manifest:
    """Land the results of a job and report on them.

    :param job: as just read from the service
    :param wait: how to wait for BigQuery
    :param replaces: see :class:`LandingRequest`
    :param is_round: a task that resubmits failed requests created the job
    :raises StillRunningError: BigQuery works for longer than ``wait`` allows
    """
    from airflow_gemini_batch.results.landing import land

    BatchJobLink.persist(context, job.name)
    OutputLink.persist(context, job)
    bigquery, storage = hook.bigquery_client(landing.project), hook.storage_client(landing.project)
    with fail_without_retry(*_PERMANENT):
        request = _request(landing, context, (job,), replaces)
        try:
            with wait.applies():
                (manifest,) = land(request, bigquery=bigquery, storage=storage)
        except OutputNotFoundError as error:
            again = how_to_run_again(job, is_round=is_round)
            raise OutputNotFoundError(job, f"{error} {again}".rstrip()) from error
        _report_on(manifest, (manifest,), request, landing, context, bigquery, storage)
    return manifest


def land_jobs(
    landing: Landing, context: Context, hook: GeminiBatchHook, jobs: tuple[BatchJob, ...], wait: LandingWait
) -> LandedJobs:
    """Land the results of several jobs by one script, and report on each.

    Jobs that have ended without any output do not keep the others from being landed.

    :param jobs: as just read from the service
    :param wait: how to wait for BigQuery
    :raises OutputNotFoundError: a job has not ended, and nothing was landed; or it has no output
    :raises StillRunningError: BigQuery works for longer than ``wait`` allows
    """
    from airflow_gemini_batch.results.landing import find_outputs, land
    from airflow_gemini_batch.results.summary import LandedJobs

    bigquery, storage = hook.bigquery_client(landing.project), hook.storage_client(landing.project)
    with fail_without_retry(*_PERMANENT):
        found = list(zip(jobs, find_outputs(jobs, storage, bigquery), strict=True))
        missing = [(job, place) for job, place in found if isinstance(place, OutputNotFoundError)]
        running = [(job, error) for job, error in missing if not job.state.is_terminal]
        if running or len(missing) == len(jobs):
            raise _of_several(running or missing, jobs, "Nothing was landed.")
        outputs = {job.name: place for job, place in found if not isinstance(place, OutputNotFoundError)}
        request = _request(landing, context, tuple(job for job in jobs if job.name in outputs), ())
        with wait.applies():
            manifests = land(request, bigquery=bigquery, storage=storage, outputs=list(outputs.values()))
        landed = LandedJobs(manifests)
        _report_on(landed, manifests, request, landing, context, bigquery, storage)
        with _kept(context, landed):
            if missing:
                consequence = f"The rows of the other jobs are in {landed.destination_table}."
                raise _of_several(missing, jobs, consequence)
    return landed


def _of_several(
    errors: list[tuple[BatchJob, OutputNotFoundError]], jobs: tuple[BatchJob, ...], consequence: str
) -> OutputNotFoundError:
    """The error of several jobs: what is wrong with the first, and which others there are."""
    job, first = errors[0]
    others = [str(each.name) for each, _ in errors[1:]]
    again = how_to_run_again(job)
    more = f" The same is true of {', '.join(others[:_MOST_NAMED])}" if others else ""
    more += f" and {counted(len(others) - _MOST_NAMED, 'more job')}" if len(others) > _MOST_NAMED else ""
    text = f"{len(errors):,} of {len(jobs):,} jobs left no output to land. {consequence} {first} {again}"
    return OutputNotFoundError(job, f"{text.rstrip()}{more}{'.' if more else ''}")


def _request(
    landing: Landing, context: Context, jobs: tuple[BatchJob, ...], replaces: tuple[str, ...]
) -> LandingRequest:
    from airflow_gemini_batch.results.landing import LandingRequest

    options = landing.options
    return LandingRequest(
        jobs=jobs,
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


def _report_on(
    landed: Manifest | LandedJobs,
    manifests: tuple[Manifest, ...],
    request: LandingRequest,
    landing: Landing,
    context: Context,
    bigquery: bq.Client,
    storage: gcs.Client,
) -> None:
    """Log what was landed, write a report about each job, and check that all rows are accounted for."""
    observe_landing(context, request.jobs, manifests)
    _log(landed, request, bigquery)
    store_tables(context, request.destination, request.error_table)
    if costs := {each.job_name: float(each.cost_usd) for each in manifests if each.cost_usd is not None}:
        # A retry lands several jobs one after the other.
        context["ti"].xcom_push(key=COST_KEY + request.jobs[0].name.job_id, value=costs)
    with _kept(context, landed):
        try:
            if landing.report:
                uri = _report(landing.report, request, manifests, bigquery, storage)
                ReportLink.persist(context, uri, landing.project)
        finally:
            # Rows that do not add up matter more than a report that fails, and are a reason to read one.
            landed.check_rows()


def passed(landed: Landed, gates: Gates, context: Context) -> dict[str, Any]:
    """Return a manifest that passes the quality gates; otherwise put it into XCom and fail the task."""
    with fail_without_retry(QualityGateError), _kept(context, landed):
        gates.check(landed)
    return landed.to_dict()


def _log(landed: Manifest | LandedJobs, request: LandingRequest, bigquery: bq.Client) -> None:
    """Log what was landed, and warn of rows that did not succeed."""
    from airflow_gemini_batch.results.failures import NOTHING_SUCCEEDED, warnings
    from airflow_gemini_batch.results.report.facts import frequent_errors
    from airflow_gemini_batch.results.row_status import RowStatus

    succeeded = landed.counts[RowStatus.SUCCEEDED]
    if not succeeded:
        log.warning(NOTHING_SUCCEEDED)
    log.info("%s", landed)
    log.info("Results: %s", landed.destination_table)
    if landed.rows == succeeded:
        return
    errors: tuple[ErrorKind, ...] = ()
    names = tuple(job.name for job in request.jobs)
    try:
        errors = frequent_errors(names, request.destination, request.error_table, bigquery)
    except ReportError as failure:
        log.warning("%s", failure)
    for line in warnings(landed.counts, errors, landed.error_table):
        log.warning("%s", line)


def _report(
    place: ReportPlace,
    request: LandingRequest,
    manifests: tuple[Manifest, ...],
    bigquery: bq.Client,
    storage: gcs.Client,
) -> str:
    """Write a report about each job, and return where it is, or the folder of several."""
    from airflow_gemini_batch.results.report.facts import report_facts
    from airflow_gemini_batch.results.report.page import render

    def write(job: BatchJob, manifest: Manifest) -> str:
        facts = report_facts(
            job.name, request.destination, request.error_table, bigquery, job=job, manifest=manifest
        )
        return place.write(render(facts), job.name, storage)

    with ThreadPoolExecutor(_REPORTS_AT_ONCE) as pool:
        written = list(pool.map(write, request.jobs, manifests))
    if len(written) == 1:
        log.info("Report: %s", written[0])
        return written[0]
    log.info("Reports: %s", place.uri)
    return place.uri


@contextmanager
def _kept(context: Context, landed: Landed) -> Iterator[None]:
    """Put a manifest into XCom, as if returned, when the task fails although its rows are landed."""
    try:
        yield
    except (OutputNotFoundError, QualityGateError, ReportError, RowCountError):
        # Imported here: it costs a DAG file 35 ms.
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

        context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=landed.to_dict())
        raise
