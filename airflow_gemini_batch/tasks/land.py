"""What the faces that land results have in common: the operator, and the decorator."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import (
    DatasetNotFoundError,
    InvalidParameterError,
    LocationMismatchError,
    OutputNotFoundError,
    QualityGateError,
    ReportError,
    RowCountError,
    TableMismatchError,
)
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.links import BatchJobLink
from airflow_gemini_batch.tasks.wait import LoggingFace, choice, connect, fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.requests.response_schema import ResponseSchema
    from airflow_gemini_batch.results.gates import Gates
    from airflow_gemini_batch.results.landing import LandingRequest, WriteMode
    from airflow_gemini_batch.results.media import MediaFolder
    from airflow_gemini_batch.results.report.location import ReportPlace
    from airflow_gemini_batch.results.retried import RetryManifest
    from airflow_gemini_batch.results.summary import Manifest

# A retry of landing meets these again; what else BigQuery refuses may pass.
_LASTING = (
    DatasetNotFoundError,
    LocationMismatchError,
    OutputNotFoundError,
    RowCountError,
    TableMismatchError,
)


class LandingFace(LoggingFace, Protocol):
    """A face that lands results; the values are those of GeminiBatchResultsToBigQueryOperator."""

    error_table: str | None
    response_schema: Any
    write_mode: str
    include_request: bool
    include_response: bool
    media_uri_prefix: str | None
    min_success_ratio: float
    max_invalid_ratio: float
    report_uri: str | None
    prices: Any
    usage_view: bool
    project_id: str | None


@dataclass(frozen=True)
class LandingValues:
    """The values of a face that lands, checked."""

    project: str
    destination: TableName
    error_table: TableName
    write_mode: WriteMode
    response_schema: ResponseSchema | None
    media: MediaFolder | None
    gates: Gates
    report: ReportPlace | None
    prices: BatchPrices | None


def landing_values(face: LandingFace, destination_table: str, hook: GeminiBatchHook) -> LandingValues:
    """Check all that can be checked without a job.

    :raises InvalidParameterError: a value cannot work
    """
    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.response_schema import ResponseSchema
    from airflow_gemini_batch.results.gates import Gates
    from airflow_gemini_batch.results.landing import WriteMode
    from airflow_gemini_batch.results.media import MediaFolder
    from airflow_gemini_batch.results.report.location import ReportPlace

    if face.media_uri_prefix and not face.include_response:
        fix = "without responses nothing would refer to the images: leave out include_response=False"
        raise InvalidParameterError("media_uri_prefix", face.media_uri_prefix, fix)
    project = hook.resolve_project(face.project_id)
    destination = TableName.parse(destination_table, project)
    return LandingValues(
        project=project,
        destination=destination,
        error_table=TableName.parse(face.error_table or f"{destination}_errors", project, "error_table"),
        write_mode=choice(WriteMode, "write_mode", face.write_mode),
        response_schema=ResponseSchema.of(face.response_schema) if face.response_schema else None,
        media=MediaFolder.parse(face.media_uri_prefix) if face.media_uri_prefix else None,
        gates=Gates.of(face.min_success_ratio, face.max_invalid_ratio),
        report=ReportPlace.parse(face.report_uri) if face.report_uri else None,
        prices=None if face.prices is None else BatchPrices.of(face.prices),
    )


def land_results(
    face: LandingFace, context: Context, *, job_name: str, destination_table: str
) -> dict[str, Any]:
    """Land the results of a job, report on them, and hold them against the gates.

    :return: the manifest; it is in XCom too when the rows are landed and the task fails
    """
    with fail_without_retry(*_LASTING):
        name = JobName.parse(job_name)
        hook = connect(face)
        values = landing_values(face, destination_table, hook)
        manifest = land_job(face, context, hook, values, hook.get_job(name))
    return passed(manifest, values.gates, context)


def land_job(
    face: LandingFace,
    context: Context,
    hook: GeminiBatchHook,
    values: LandingValues,
    job: BatchJob,
    *,
    replaces: tuple[str, ...] = (),
    replaced_by: tuple[str, ...] = (),
) -> Manifest:
    """Land the results of a job and report on them.

    :param job: as just read from the service
    :param replaces: see :class:`LandingRequest`, as for ``replaced_by``
    """
    from airflow_gemini_batch.results.landing import LandingRequest, land

    request = LandingRequest(
        job=job,
        destination=values.destination,
        error_table=values.error_table,
        run=run_identity(context),
        response_schema=values.response_schema,
        infer_schema=face.response_schema is not False,
        write_mode=values.write_mode,
        include_request=face.include_request,
        include_response=face.include_response,
        media=values.media,
        replaces=replaces,
        replaced_by=replaced_by,
        prices=values.prices,
        usage_view=face.usage_view,
    )
    BatchJobLink.persist(context, job.name)
    bigquery, storage = hook.bigquery_client(values.project), hook.storage_client(values.project)
    with fail_without_retry(*_LASTING):
        manifest = land(request, bigquery=bigquery, storage=storage)
        face.log.info("%s", manifest)
        with _kept(context, manifest):
            try:
                if values.report:
                    written = _report(values.report, request, manifest, bigquery, storage)
                    face.log.info("Report: %s", written)
            finally:
                # Rows that do not add up weigh more than a page that fails, and are what it is looked at for.
                manifest.check_rows()
    return manifest


def passed(landed: Manifest | RetryManifest, gates: Gates, context: Context) -> dict[str, Any]:
    """Return a manifest that passes the gates; else it is in XCom all the same, and the task fails."""
    with fail_without_retry(QualityGateError), _kept(context, landed):
        gates.check(landed)
    return landed.to_dict()


def _report(
    place: ReportPlace, request: LandingRequest, manifest: Manifest, bigquery: bq.Client, storage: gcs.Client
) -> str:
    """Write the page about what was landed, and say where it is."""
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
    """Put a manifest where the task would return it, when the task fails although its rows are landed."""
    try:
        yield
    except (QualityGateError, ReportError, RowCountError):
        # Imported here: it costs a DAG file 35 ms.
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

        context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=landed.to_dict())
        raise
