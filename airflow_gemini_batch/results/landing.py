"""Landing: raw lines → staging tables → typed rows, all inside BigQuery. No row passes through the worker."""

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
from airflow_gemini_batch.results.inferred_schema import MAX_SPELLINGS, infer_schema
from airflow_gemini_batch.results.media import MediaFolder, find_media
from airflow_gemini_batch.results.outputs import Objects, find_input, find_output
from airflow_gemini_batch.results.row_counts import count_not_replaced, count_rows
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.staging import Sources, drop, stage
from airflow_gemini_batch.results.statements import (
    Landing,
    landing_script,
    list_parameters,
    media_script,
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
    """What happens to rows that are already in the tables."""

    APPEND = "append"
    """Rows of this job are replaced, rows of other jobs are kept."""
    TRUNCATE = "truncate"
    """All rows are replaced."""
    MERGE = "merge"
    """Each key has one row across all jobs: the newest success, or the newest row if there is no success."""


@dataclass(frozen=True)
class LandingRequest:
    """What to land, and where.

    :param job: a job that has ended, as just read from the service
    :param infer_schema: without a ``response_schema``, use the one that all requests of the job contain
    :param key_field: member of an input line, or column of an input table, that contains the row's key
    :param include_request: whether to store requests in the results table; the error table always stores
        them, so that failed requests can be resubmitted
    :param include_response: whether to store responses
    :param media: where to store inline media of responses; ``None`` leaves it in the responses
    :param replaces: names of jobs whose retryable failures this job resubmitted; its rows replace those of
        the same key
    :param replaced_by: names of jobs that resubmitted failures of this job and were landed since
    :param prices: negotiated prices; ``None`` for list prices
    :param usage_view: create the view ``…_usage`` next to the destination if it does not exist
    """

    job: BatchJob
    destination: TableName
    error_table: TableName
    run: RunIdentity
    response_schema: ResponseSchema | None = None
    infer_schema: bool = True
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
    """Land the output of a job as typed rows. Idempotent: landing again changes nothing.

    Call :meth:`Manifest.check_rows` on the result to check that every input row is accounted for.

    :raises InvalidParameterError: ``key_field`` is not a valid name
    :raises OutputNotFoundError: the job has not ended, or has no output
    :raises ResponseSchemaError: a property has the name of a fixed column of the results table
    :raises DatasetNotFoundError: the dataset of the destination does not exist
    :raises LocationMismatchError: the dataset cannot read the job's output from where it is stored
    :raises TableMismatchError: the destination exists with incompatible columns
    :raises MediaError: Cloud Storage refused a request
    :raises LandingError: BigQuery refused a request
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", request.key_field):
        raise InvalidParameterError("key_field", request.key_field, "use only letters, digits and _")
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
    # A table that was dropped and created again is another table: rows landed in the old one are not in it.
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
    """Return the results table and its typed columns."""
    schema = request.response_schema
    inferred = None
    if schema is None and request.infer_schema:
        source, is_output = sources.requests or sources.responses, sources.requests is None
        script = schemas_script(source, MAX_SPELLINGS, is_output=is_output)
        load = partial(stage, bigquery, location, sources.staged)
        stem = f"gemini-batch-schemas-{_digest(sources.digest, script)}"
        inferred = infer_schema(script, stem, load, location, bigquery)
    columns = result_columns(schema or inferred)
    try:
        return ensure_table(request.destination, columns, bigquery), columns[len(RESULT_COLUMNS) :]
    except TableMismatchError as error:
        if not inferred:
            raise
        # The user did not ask for these columns, so they must not fail the landing.
        log.warning("No typed columns from the inferred schema: %s", error)
    return ensure_table(request.destination, RESULT_COLUMNS, bigquery), ()


@dataclass(frozen=True)
class _Plan:
    """One landing.

    :param digest: of everything that decides what is landed: equal plans are the same landing
    """

    landing: Landing
    staged: dict[TableName, Objects]
    digest: str


def _plan(
    request: LandingRequest,
    sources: Sources,
    columns: tuple[Column, ...],
    tables_created: tuple[datetime | None, ...],
) -> _Plan:
    job = request.job
    landing = Landing(
        responses=sources.responses,
        requests=sources.requests,
        results=request.destination,
        errors=request.error_table,
        columns=columns,
        key_field=request.key_field,
        merges=request.write_mode is WriteMode.MERGE,
        stores_requests=request.include_request,
        stores_responses=request.include_response,
        prices=request.prices or BatchPrices.listed(job.model, job.latest_time or datetime.now(UTC)),
        media=request.destination.sibling(f"gemini_batch_staging_{sources.digest}_media")
        if request.media
        else None,
    )
    rates = price_parameters(landing.prices)
    digest = _digest(sources.digest, columns, tables_created, rates, landing_script(landing), request.media)
    return _Plan(landing, sources.staged, digest)


def _run(
    plan: _Plan, request: LandingRequest, location: str, bigquery: bq.Client, storage: gcs.Client
) -> dict[str, Any]:
    """Run the script, unless this landing has run before, and return the counts it ends with."""
    media = plan.landing.media

    @cache  # After a conflict with another transaction the script starts again; its sources are still there.
    def prepare() -> None:
        stage(bigquery, location, plan.staged)
        if media and request.media:
            find_media(media_script(plan.landing), media, location, bigquery)
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
    """Whether the rows of an earlier landing are all still there; its counts are kept for a day."""
    from google.api_core.exceptions import GoogleAPICallError

    try:
        counts = _counts(job)
    except GoogleAPICallError:
        return False
    name = str(request.job.name)
    rows = sum(counts[status.value] for status in RowStatus)
    # If a later job resubmitted a failure, its row has replaced the one that was here.
    later = 0
    if request.replaced_by:
        later = count_rows(bigquery, request.destination, request.replaced_by)
    # A merge does not write all rows; the script then ends with the numbers of rows written.
    expected = {
        request.destination: counts.get("result_rows", rows),
        request.error_table: counts.get("error_rows", rows - counts[RowStatus.SUCCEEDED.value]),
    }
    for table, number in expected.items():
        if count_rows(bigquery, table, (name,)) + later != number:
            return False
    return not request.replaces or not count_not_replaced(
        bigquery, request.destination, request.error_table, job_name=name, replaces=request.replaces
    )


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
