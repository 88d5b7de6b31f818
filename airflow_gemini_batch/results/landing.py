"""Landing: raw lines → staging tables → typed rows, all inside BigQuery. No row passes through the worker."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from airflow_gemini_batch.cost.prices import prices_of
from airflow_gemini_batch.exceptions import TableMismatchError
from airflow_gemini_batch.gcp.bigquery_job import digest
from airflow_gemini_batch.gcp.table_name import dataset_location
from airflow_gemini_batch.requests.in_bigquery.claims import Claims
from airflow_gemini_batch.requests.key_field import KeyField
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.results.advice import advice_on_keys, advice_on_schema
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS, arranged, result_columns
from airflow_gemini_batch.results.cost import ensure_usage_view, price_parameters
from airflow_gemini_batch.results.destination import (
    check_locations,
    create_table,
    ensure_table,
    lock_of,
    lock_script,
)
from airflow_gemini_batch.results.inferred_schema import MAX_SPELLINGS, infer_schema
from airflow_gemini_batch.results.landing_job import Plan, run_landing
from airflow_gemini_batch.results.outputs import asked_rows, find_input, find_output
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.staging import Sources, stage
from airflow_gemini_batch.results.statements import Landing, landing_script, schemas_script
from airflow_gemini_batch.results.summary import Manifest, manifest

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.requests.response_schema import Column, ResponseSchema
    from airflow_gemini_batch.results.media import MediaFolder
    from airflow_gemini_batch.results.outputs import JobTable, Objects

log = logging.getLogger(__name__)

# A job without any time, which the service does not create, has the newest list prices.
_LATEST = datetime.max.replace(tzinfo=UTC)


class WriteMode(StrEnum):
    """What happens to rows that are already in the tables."""

    APPEND = "append"
    """Rows of this job are replaced, rows of other jobs are kept."""
    TRUNCATE = "truncate"
    """All rows are replaced, except those of other jobs of the same DAG run."""
    MERGE = "merge"
    """Each key has one row across all jobs: the newest success, or the newest row if there is no success."""


@dataclass(frozen=True)
class LandingRequest:
    """What to land, and where.

    :param job: a job that has ended, as just read from the service
    :param infer_schema: without a ``response_schema``, use the one that all requests of the job contain
    :param key_field: where the rows of the job have their keys, see :meth:`KeyField.parse`
    :param include_request: whether to store requests in the results table; the error table always stores
        them, so that failed requests can be resubmitted
    :param include_response: whether to store responses
    :param media: where to store inline media of responses; ``None`` leaves it in the responses
    :param replaces: names of jobs whose retryable failures this job resubmitted; its rows replace those of
        the same requests
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
    prices: NegotiatedPrices | None = None
    usage_view: bool = True


def land(request: LandingRequest, *, bigquery: bq.Client, storage: gcs.Client) -> Manifest:
    """Land the output of a job as typed rows. Idempotent: landing again changes nothing.

    Call :meth:`Manifest.check_rows` on the result to check that every input row is accounted for.

    :raises InvalidParameterError: ``key_field`` names no place of a key
    :raises OutputNotFoundError: the job has not ended, or has no output
    :raises DatasetNotFoundError: the dataset of the destination does not exist
    :raises LocationMismatchError: the dataset cannot read the job's output from where it is stored
    :raises TableMismatchError: the destination exists with incompatible columns
    :raises MediaError: Cloud Storage refused a request
    :raises KeylessRowsError: a merge would drop answers, because requests without a key are equal
    :raises LandingError: BigQuery refused a request
    """
    key_field = KeyField.parse(request.key_field)
    output = find_output(request.job, storage, bigquery)
    given = find_input(request.job, storage, bigquery)
    location = dataset_location(request.destination, bigquery, request.job.name.location)
    check_locations(request.destination, location, output, bigquery, storage)
    sources = _sources(request, output, given)
    results, columns = _results_table(request, sources, location, bigquery)
    errors = ensure_table(request.error_table, ERROR_COLUMNS, bigquery)
    # A table that was dropped and created again is another table: rows landed in the old one are not in it.
    claims = _claims(request, location, bigquery, input_known=given is not None)
    created = (results.created, errors.created)
    plan = _plan(request, key_field, sources, arranged(columns, results.schema), created, claims)
    if plan.landing.lock:
        create_table(lock_script(plan.landing.lock), plan.landing.lock, bigquery, location)
    counts = run_landing(plan, location, bigquery, storage)
    result = manifest(
        request.job,
        counts,
        destination=request.destination,
        errors=request.error_table,
        input_known=given is not None,
    )
    if given is None:
        log.warning(
            "The input is gone or has changed since the job was created. Keys and requests are those of the "
            "output."
        )
        log.warning("%s", result.unknown_input)
    if counts["input_rows"] and not counts["named_rows"]:
        _advise(advice_on_keys(key_field, given or output, storage))
    if request.response_schema and result.counts[RowStatus.INVALID] * 2 > result.rows:
        _advise(advice_on_schema(given or output, storage))
    if request.usage_view:
        ensure_usage_view(request.destination, bigquery)
    return result


def _advise(advice: str | None) -> None:
    if advice:
        log.warning("%s", advice)


def _sources(
    request: LandingRequest, output: Objects | JobTable, given: Objects | JobTable | None
) -> Sources:
    """Name the staging tables. Landings that differ have their own, which each drops when it is done."""
    of_sources = digest(
        str(request.job.name),
        output,
        given,
        (request.destination, request.error_table, request.write_mode, request.key_field, request.replaces),
        (request.response_schema, request.infer_schema, request.prices),
        (request.include_request, request.include_response, request.media),
    )
    return Sources.of(output, given, request.destination, of_sources)


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
        stem = f"gemini-batch-schemas-{digest(sources.digest, script)}"
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


def _claims(
    request: LandingRequest, location: str, bigquery: bq.Client, *, input_known: bool
) -> TableName | None:
    """Return the table of claims, if there is one.

    A merge needs it only if the input is unknown: it keeps one row per key anyway.
    """
    claims = Claims(request.destination, bigquery, location)
    is_needed = request.write_mode is not WriteMode.MERGE or not input_known
    return claims.table if is_needed and claims.exist() else None


def _plan(
    request: LandingRequest,
    key_field: KeyField,
    sources: Sources,
    columns: tuple[Column, ...],
    tables_created: tuple[datetime | None, ...],
    claims: TableName | None,
) -> Plan:
    job, mode = request.job, request.write_mode
    landing = Landing(
        responses=sources.responses,
        requests=sources.requests,
        results=request.destination,
        errors=request.error_table,
        columns=columns,
        key_field=key_field,
        merges=mode is WriteMode.MERGE,
        truncates=mode is WriteMode.TRUNCATE,
        replaces=bool(request.replaces),
        claims=claims,
        lock=None if mode is WriteMode.APPEND else lock_of(request.destination),
        stores_requests=request.include_request,
        stores_responses=request.include_response,
        prices=prices_of(job.model, job.name.location, job.latest_time or _LATEST, request.prices),
        media=request.destination.sibling(f"gemini_batch_staging_{sources.digest}_media")
        if request.media
        else None,
    )
    return Plan(
        landing,
        job,
        request.run,
        request.media,
        request.replaces,
        sources.staged,
        series=digest(str(job.name), request.destination),
        digest=digest(
            sources.digest,
            columns,
            tables_created,
            price_parameters(landing.prices),
            landing_script(landing),
            request.media,
            None if sources.requests else asked_rows(job),
        ),
    )
