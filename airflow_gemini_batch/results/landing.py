"""Landing: raw lines → staging → typed rows, all inside BigQuery. No row passes through the worker."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cost.prices import LONG_PROMPT_TOKENS, BatchPrices
from airflow_gemini_batch.exceptions import InvalidParameterError, TableMismatchError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.table_name import dataset_location
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS, arranged, result_columns
from airflow_gemini_batch.results.cost import ensure_usage_view, price_parameters, users_labels
from airflow_gemini_batch.results.destination import check_locations, ensure_table
from airflow_gemini_batch.results.found_schema import MAX_SPELLINGS, find_schema
from airflow_gemini_batch.results.media import MediaFolder, find_media
from airflow_gemini_batch.results.outputs import Objects, find_input, find_output
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.staging import Sources, drop, stage
from airflow_gemini_batch.results.statements import (
    Landing,
    count_script,
    landing_script,
    list_parameters,
    media_script,
    replaced_script,
    schemas_script,
)
from airflow_gemini_batch.results.summary import Manifest, manifest

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.requests.response_schema import Column, ResponseSchema

log = logging.getLogger(__name__)


class WriteMode(StrEnum):
    """What happens to the rows that are in the tables already."""

    APPEND = "append"
    """Rows of this job are replaced, those of other jobs stay."""
    TRUNCATE = "truncate"
    """All rows are replaced."""
    MERGE = "merge"
    """A key has one row, over all jobs: the newest success, or what came last where there is none."""


@dataclass(frozen=True)
class LandingRequest:
    """What to land, and where.

    :param job: one that has ended, as just read from the service
    :param find_schema: without a ``response_schema``, take the one that all requests of the job ask for
    :param key_field: member of an input line, or column of an input table, that holds a row's key
    :param include_request: whether to store requests in the results table; the error table has them anyway,
        since what failed may be asked again
    :param include_response: whether to store responses
    :param media: where to store what responses hold inline; ``None`` leaves it there
    :param replaces: names of jobs whose retryable failures this one was asked again: where it has a row of
        their key, theirs go
    :param prices: negotiated; ``None`` for those of the list
    :param usage_view: make the view ``…_usage`` beside the destination unless it is there
    :param replaced_by: names of jobs that were landed since, and were asked failures of this one again
    """

    job: BatchJob
    destination: TableName
    error_table: TableName
    run: RunIdentity
    response_schema: ResponseSchema | None = None
    find_schema: bool = True
    write_mode: WriteMode = WriteMode.APPEND
    key_field: str = KEY_FIELD
    include_request: bool = True
    include_response: bool = True
    media: MediaFolder | None = None
    replaces: tuple[str, ...] = ()
    replaced_by: tuple[str, ...] = ()
    prices: BatchPrices | None = None
    usage_view: bool = True


def land(request: LandingRequest, *, bigquery: bq.Client, storage: gcs.Client) -> Manifest:
    """Land the output of a job as typed rows. Landing twice is landing once.

    Whether the rows add up is to be asked of the manifest, :meth:`Manifest.check_rows`.

    :raises InvalidParameterError: ``key_field`` is no name
    :raises OutputNotFoundError: the job has not ended, or left nothing
    :raises ResponseSchemaError: a property has the name of a column that the table has anyway
    :raises DatasetNotFoundError: the dataset of the destination does not exist
    :raises LocationMismatchError: it cannot read the job's output from where it lies
    :raises TableMismatchError: the destination exists with other columns
    :raises MediaError: Cloud Storage refused
    :raises LandingError: BigQuery refused
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", request.key_field):
        raise InvalidParameterError("key_field", request.key_field, "give letters, digits and _ only")
    result_columns(request.response_schema)
    output = find_output(request.job, storage, bigquery)
    given = find_input(request.job, storage, bigquery)
    location = dataset_location(request.destination, bigquery, request.job.name.location)
    check_locations(request.destination, location, output, bigquery, storage)
    settings = (request.destination, request.error_table, request.write_mode, request.key_field)
    digest = _digest(str(request.job.name), output, given, settings, request.replaces)
    sources = Sources.of(output, given, request.destination, digest)
    results, columns = _results_table(request, sources, location, bigquery)
    errors = ensure_table(request.error_table, ERROR_COLUMNS, bigquery)
    # A table that was dropped and made again is another table: what was landed in the old one is not in it.
    plan = _plan(request, sources, arranged(columns, results.schema), (results.created, errors.created))
    counts = _run(plan, request, location, bigquery, storage)
    result = manifest(
        request.job,
        counts,
        destination=request.destination,
        errors=request.error_table,
        input_known=plan.landing.requests is not None,
    )
    if request.usage_view:
        ensure_usage_view(request.destination, bigquery)
    return result


def _results_table(
    request: LandingRequest, sources: Sources, location: str, bigquery: bq.Client
) -> tuple[bq.Table, tuple[Column, ...]]:
    """Return the results table and the typed columns to fill."""
    schema = request.response_schema
    found = None
    if schema is None and request.find_schema:
        source, echoed = sources.requests or sources.answers, sources.requests is None
        script = schemas_script(source, MAX_SPELLINGS, echoed=echoed)
        load = partial(stage, bigquery, location, sources.staged)
        stem = f"gemini-batch-schemas-{_digest(sources.digest, script)}"
        found = find_schema(script, stem, load, location, bigquery)
    columns = result_columns(schema or found)
    try:
        return ensure_table(request.destination, columns, bigquery), columns[len(RESULT_COLUMNS) :]
    except TableMismatchError as error:
        if not found:
            raise
        # Nobody has asked for these columns, so they must not be what a landing fails of.
        log.warning("No typed columns, although the requests ask for a schema: %s", error)
    return ensure_table(request.destination, RESULT_COLUMNS, bigquery), ()


@dataclass(frozen=True)
class _Plan:
    """What one landing does.

    :param digest: stands for all that decides what is landed: equal plans are one landing
    """

    landing: Landing
    staged: dict[TableName, Objects]
    digest: str


def _plan(
    request: LandingRequest,
    sources: Sources,
    columns: tuple[Column, ...],
    tables_made: tuple[datetime | None, ...],
) -> _Plan:
    job = request.job
    landing = Landing(
        answers=sources.answers,
        requests=sources.requests,
        results=request.destination,
        errors=request.error_table,
        columns=columns,
        key_field=request.key_field,
        merges=request.write_mode is WriteMode.MERGE,
        request=request.include_request,
        response=request.include_response,
        prices=request.prices or BatchPrices.listed(job.model, job.latest_time or datetime.now(UTC)),
        media=request.destination.sibling(f"gemini_batch_staging_{sources.digest}_media")
        if request.media
        else None,
    )
    rates = price_parameters(landing.prices)
    digest = _digest(sources.digest, columns, tables_made, rates, landing_script(landing), request.media)
    return _Plan(landing, sources.staged, digest)


def _run(
    plan: _Plan, request: LandingRequest, location: str, bigquery: bq.Client, storage: gcs.Client
) -> dict[str, Any]:
    """Run the script, once, and return the counts that it ends with."""
    media = plan.landing.media

    @cache  # Once, also when the script runs into another's transaction and is started again.
    def prepare() -> None:
        stage(bigquery, location, plan.staged)
        if media and request.media:
            script = media_script(plan.landing.answers, request.key_field, media)
            find_media(script, media, location, bigquery)
            request.media.store(media, bigquery, storage)

    def start(job_id: str) -> bq.QueryJob:
        prepare()
        return bigquery.query(
            landing_script(plan.landing),
            job_config=_query_config(request, plan.landing),
            job_id=job_id,
            location=location,
            job_retry=None,
        )

    step = bigquery_job.Step(
        f"gemini-batch-land-{plan.digest}", start, partial(_is_landed, bigquery, request)
    )
    (job,) = bigquery_job.run(bigquery, location, [step])
    counts = _counts(job)
    drop(bigquery, [*plan.staged, *filter(None, [media])])
    return counts


def _query_config(request: LandingRequest, landing: Landing) -> bq.QueryJobConfig:
    from google.cloud import bigquery as bq

    run = request.run
    texts = {
        "job_name": str(request.job.name),
        "dag_id": run.dag_id,
        "task_id": run.task_id,
        "run_id": run.run_id,
        "job_labels": users_labels(request.job.labels),
    }
    if request.media:
        texts["media_uri_prefix"] = request.media.uri
    lists = list_parameters(landing)
    numbers = {"long_prompt_tokens": LONG_PROMPT_TOKENS, **price_parameters(landing.prices)}
    parameters: list[Any] = [
        bq.ScalarQueryParameter("landed_at", "TIMESTAMP", datetime.now(UTC)),
        bq.ScalarQueryParameter("job_time", "TIMESTAMP", request.job.latest_time),
        bq.ScalarQueryParameter("truncate", "BOOL", request.write_mode is WriteMode.TRUNCATE),
        *(bq.ScalarQueryParameter(name, "INT64", value) for name, value in numbers.items()),
        *(bq.ScalarQueryParameter(name, "STRING", value) for name, value in texts.items()),
        bq.ArrayQueryParameter("replaces", "STRING", request.replaces),
        *(bq.ArrayQueryParameter(name, "STRING", values) for name, values in lists.items()),
    ]
    return bq.QueryJobConfig(query_parameters=parameters)


def _counts(job: bq.QueryJob) -> dict[str, Any]:
    (row,) = job.result(job_retry=None)
    return dict(row.items())


def _is_landed(bigquery: bq.Client, request: LandingRequest, job: bq.QueryJob) -> bool:
    """Whether the rows of an earlier landing are all still there, and its counts too (kept for a day)."""
    from google.api_core.exceptions import GoogleAPICallError

    try:
        counts = _counts(job)
    except GoogleAPICallError:
        return False
    rows = sum(counts[status.value] for status in RowStatus)
    # Where a later job was asked a failure again, its row stands for the one that was here.
    later = 0
    if request.replaced_by:
        later = count_rows(bigquery, request.destination, request.replaced_by)
    # Merging leaves out what is there already; then the script has counted what it wrote.
    expected = {
        request.destination: counts.get("result_rows", rows),
        request.error_table: counts.get("error_rows", rows - counts[RowStatus.SUCCEEDED.value]),
    }
    for table, number in expected.items():
        if count_rows(bigquery, table, (str(request.job.name),)) + later != number:
            return False
    return not request.replaces or not _count(
        bigquery,
        replaced_script(request.destination, request.error_table),
        job_names=(str(request.job.name),),
        replaces=request.replaces,
    )


def count_rows(bigquery: bq.Client, table: TableName, job_names: tuple[str, ...]) -> int:
    """Count the rows that a table has of some jobs."""
    return _count(bigquery, count_script(table), job_names=job_names)


def _count(bigquery: bq.Client, statement: str, **names: tuple[str, ...]) -> int:
    from google.cloud import bigquery as bq

    given = [bq.ArrayQueryParameter(name, "STRING", values) for name, values in names.items()]
    config = bq.QueryJobConfig(query_parameters=given)
    ((found,),) = bigquery.query(statement, job_config=config).result()
    return int(found)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
