"""Landing: raw lines → staging tables → typed rows, all inside BigQuery. No row passes through the worker."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, TypeVar

from airflow_gemini_batch.cost.prices import prices_of
from airflow_gemini_batch.exceptions import (
    Described,
    InvalidParameterError,
    LocationMismatchError,
    OutputNotFoundError,
    TableMismatchError,
)
from airflow_gemini_batch.gcp.bigquery_job import digest
from airflow_gemini_batch.requests.in_bigquery.claims import Claims
from airflow_gemini_batch.requests.key_field import KeyField
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.results.advice import advice_on_keys, advice_on_schema
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS, arranged, result_columns
from airflow_gemini_batch.results.cost import ensure_usage_view, price_parameters
from airflow_gemini_batch.results.destination import (
    check_columns,
    check_locations,
    create_table,
    ensure_table,
    location_beside,
    lock_of,
    lock_script,
    not_queryable,
    partition_filter,
)
from airflow_gemini_batch.results.inferred_schema import MAX_SPELLINGS, infer_schema
from airflow_gemini_batch.results.landing_job import LandedJob, Plan, run_landing
from airflow_gemini_batch.results.outputs import JobTable, Objects, asked_rows, find_input, find_output
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.staging import Sources, stage
from airflow_gemini_batch.results.statements import Landing, landing_script, schemas_script
from airflow_gemini_batch.results.summary import Manifest, manifest
from airflow_gemini_batch.service import MAX_LOAD_URIS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.requests.response_schema import Column, ResponseSchema
    from airflow_gemini_batch.results.media import MediaFolder

log = logging.getLogger(__name__)

# A job without any time, which the service does not create, has the newest list prices.
_LATEST = datetime.max.replace(tzinfo=UTC)
# Jobs that are looked up at the same time, and those that the log names.
_AT_ONCE = 8
_MOST_SAID = 3

MAX_TABLES = 200
"""Jobs with output or input in BigQuery that are landed at once: a script has at most 1 MB."""

_T = TypeVar("_T")


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

    :param jobs: jobs that have ended, as just read from the service; each once
    :param infer_schema: without a ``response_schema``, use the one that all requests of the job contain
    :param key_field: where the rows of the job have their keys, see :meth:`KeyField.parse`
    :param include_request: whether to store requests in the results table; the error table always stores
        them, so that failed requests can be resubmitted
    :param include_response: whether to store responses
    :param media: where to store inline media of responses; ``None`` leaves it in the responses
    :param replaces: names of jobs whose retryable failures the jobs resubmitted; their rows replace those of
        the same requests
    :param prices: negotiated prices; ``None`` for list prices
    :param usage_view: create the view ``…_usage`` next to the destination if it does not exist
    """

    jobs: tuple[BatchJob, ...]
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


def land(
    request: LandingRequest,
    *,
    bigquery: bq.Client,
    storage: gcs.Client,
    outputs: Sequence[Objects | JobTable] | None = None,
) -> tuple[Manifest, ...]:
    """Land the output of jobs as typed rows, all or none. Idempotent: landing again changes nothing.

    Call :meth:`Manifest.check_rows` on the results to check that every input row is accounted for.

    :param outputs: of each job, if they have been found already
    :return: a manifest for each job, in their order
    :raises InvalidParameterError: ``key_field`` names no place of a key, or the jobs are too many
    :raises OutputNotFoundError: a job has not ended, or has no output
    :raises DatasetNotFoundError: the dataset of the destination does not exist
    :raises LocationMismatchError: the dataset cannot read a job's output from where it is stored
    :raises TableMismatchError: the destination exists with incompatible columns
    :raises MediaError: Cloud Storage refused a request
    :raises KeylessRowsError: a merge would drop answers, because requests without a key are equal
    :raises LandingError: BigQuery refused a request
    """
    key_field = KeyField.parse(request.key_field)
    if outputs is None:
        outputs = _of_each(find_output, request.jobs, storage, bigquery)
    inputs = _of_each(find_input, request.jobs, storage, bigquery)
    written = next(each.name if isinstance(each, JobTable) else each.bucket for each in outputs)
    location = location_beside(request.destination, written, request.jobs[0].name.location, bigquery, storage)
    check_locations(request.destination, location, outputs, bigquery, storage)
    _check_number(outputs, inputs)
    sources = _sources(
        request, outputs, inputs, names_objects=_may_query(request, location, outputs, inputs, storage)
    )
    results, columns = _results_table(request, sources, location, bigquery)
    errors = ensure_table(request.error_table, ERROR_COLUMNS, bigquery)
    claims = _claims(request, location, bigquery, inputs_known=not sources.unknown)
    filters = partition_filter(results), partition_filter(errors)
    landing = _landing(request, key_field, sources, arranged(columns, results.schema), claims, filters)
    # A table that was dropped and created again is another table: rows landed in the old one are not in it.
    plan = _plan(request, landing, sources, (results.created, errors.created), inputs)
    if landing.lock:
        create_table(lock_script(landing.lock), landing.lock, bigquery, location)
    counts = run_landing(plan, location, bigquery, storage)
    manifests = tuple(
        manifest(
            job,
            counts[str(job.name)],
            destination=request.destination,
            errors=request.error_table,
            input_known=given is not None,
            typed_columns=columns,
        )
        for job, given in zip(request.jobs, inputs, strict=True)
    )
    _say_unknown(manifests)
    # Jobs that are landed together are alike: the first that is odd is looked into, for all of them.
    places = [given or output for given, output in zip(inputs, outputs, strict=True)]
    of_jobs = [counts[str(job.name)] for job in request.jobs]
    without_keys = (each["input_rows"] and not each["named_rows"] for each in of_jobs)
    if place := next(compress(places, without_keys), None):
        _advise(advice_on_keys(key_field, place, storage))
    invalid = (each.counts[RowStatus.INVALID] * 2 > each.rows for each in manifests)
    if request.response_schema and (place := next(compress(places, invalid), None)):
        _advise(advice_on_schema(place, storage))
    if request.usage_view:
        ensure_usage_view(request.destination, bigquery)
    return manifests


def _of_each(
    find: Callable[[BatchJob, gcs.Client, bq.Client], _T],
    jobs: tuple[BatchJob, ...],
    storage: gcs.Client,
    bigquery: bq.Client,
) -> list[_T]:
    """Look something up for each job, several at a time: each takes a tenth of a second."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda job: find(job, storage, bigquery), jobs))


def _check_number(outputs: Sequence[Objects | JobTable], inputs: Sequence[Objects | JobTable | None]) -> None:
    fix = "Land fewer jobs at once, for example half of them in each of two tasks"
    for places, what in ((outputs, "output"), (inputs, "input")):
        tables = sum(isinstance(each, JobTable) for each in places)
        if tables > MAX_TABLES:
            reason = f"{tables:,} of them have their {what} in BigQuery, and one script can read {MAX_TABLES}"
            raise InvalidParameterError(
                "job_name", Described(f"names {len(places):,} jobs"), f"{reason}. {fix}"
            )
        objects = sum(len(each.versions) for each in places if isinstance(each, Objects))
        if objects > MAX_LOAD_URIS:
            reason = (
                f"their {what} has {objects:,} objects, and BigQuery reads at most {MAX_LOAD_URIS:,} at once"
            )
            raise InvalidParameterError(
                "job_name", Described(f"names {len(places):,} jobs"), f"{reason}. {fix}"
            )


def find_outputs(
    jobs: tuple[BatchJob, ...], storage: gcs.Client, bigquery: bq.Client
) -> list[Objects | JobTable | OutputNotFoundError]:
    """Find the output of each job; in its place, why there is none to land."""

    def find(
        job: BatchJob, storage: gcs.Client, bigquery: bq.Client
    ) -> Objects | JobTable | OutputNotFoundError:
        try:
            return find_output(job, storage, bigquery, consequence="")
        except OutputNotFoundError as error:
            return error

    return _of_each(find, jobs, storage, bigquery)


def _may_query(
    request: LandingRequest,
    location: str,
    outputs: Sequence[Objects | JobTable],
    inputs: Sequence[Objects | JobTable | None],
    storage: gcs.Client,
) -> bool:
    """Whether a query can read the objects, which tells from which of them a line is.

    :raises LocationMismatchError: it cannot, and several jobs need it
    """
    several_jobs = len(request.jobs) > 1
    if not several_jobs and not any(isinstance(each, Objects) and len(each.uris) > 1 for each in inputs):
        return True  # Nobody asks.
    only_loaded = not_queryable(location, [*outputs, *inputs], storage)
    if only_loaded and several_jobs:
        bucket, there = only_loaded
        raise LocationMismatchError(
            f"Dataset {request.destination.dataset_id}",
            location,
            f"bucket {bucket}",
            there,
            "Several jobs are read by a query, which cannot read from there. Land each job alone, or land in "
            "a dataset in the location of the bucket.",
        )
    return not only_loaded


def _say_unknown(manifests: tuple[Manifest, ...]) -> None:
    unknown = [each for each in manifests if not each.input_known]
    if not unknown:
        return
    of_which = "" if len(manifests) == 1 else f" for {len(unknown):,} of {len(manifests):,} jobs"
    log.warning(
        "The input is gone or has changed since the job was created%s. Keys and requests are those of the "
        "output.",
        of_which,
    )
    for each in unknown[:_MOST_SAID]:
        log.warning("%s", each.unknown_input)


def _advise(advice: str | None) -> None:
    if advice:
        log.warning("%s", advice)


def _sources(
    request: LandingRequest,
    outputs: Sequence[Objects | JobTable],
    inputs: Sequence[Objects | JobTable | None],
    *,
    names_objects: bool,
) -> Sources:
    """Name the staging tables. Landings that differ have their own, which each drops when it is done."""
    of_sources = digest(
        _names(request.jobs),
        outputs,
        inputs,
        (request.destination, request.error_table, request.write_mode, request.key_field, request.replaces),
        (request.response_schema, request.infer_schema, request.prices),
        (request.include_request, request.include_response, request.media, names_objects),
    )
    return Sources.of(outputs, inputs, request.destination, of_sources, names_objects=names_objects)


def _names(jobs: tuple[BatchJob, ...]) -> str | tuple[str, ...]:
    # Of one job: its name alone, as in earlier versions, whose BigQuery jobs may still run.
    names = tuple(str(job.name) for job in jobs)
    return names if len(names) > 1 else names[0]


def _results_table(
    request: LandingRequest, sources: Sources, location: str, bigquery: bq.Client
) -> tuple[bq.Table, tuple[Column, ...]]:
    """Return the results table and its typed columns."""
    schema = request.response_schema
    inferred = None
    if schema is None and request.infer_schema:
        parts, is_output = sources.requests or sources.responses, not sources.requests
        script = schemas_script(parts, MAX_SPELLINGS, is_output=is_output)
        # Before anything is staged; the columns of the schema follow.
        check_columns(request.destination, RESULT_COLUMNS, bigquery)
        check_columns(request.error_table, ERROR_COLUMNS, bigquery)
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
    request: LandingRequest, location: str, bigquery: bq.Client, *, inputs_known: bool
) -> TableName | None:
    """Return the table of claims, if there is one.

    A merge needs it only if an input is unknown: it keeps one row per key anyway.
    """
    claims = Claims(request.destination, bigquery, location)
    is_needed = request.write_mode is not WriteMode.MERGE or not inputs_known
    return claims.table if is_needed and claims.exist() else None


def _landing(
    request: LandingRequest,
    key_field: KeyField,
    sources: Sources,
    columns: tuple[Column, ...],
    claims: TableName | None,
    filters: tuple[str, str],
) -> Landing:
    mode = request.write_mode
    return Landing(
        responses=sources.responses,
        requests=sources.requests,
        results=request.destination,
        errors=request.error_table,
        columns=columns,
        key_field=key_field,
        unknown=sources.unknown,
        merges=mode is WriteMode.MERGE,
        truncates=mode is WriteMode.TRUNCATE,
        replaces=bool(request.replaces),
        claims=claims,
        lock=None if mode is WriteMode.APPEND else lock_of(request.destination),
        stores_requests=request.include_request,
        stores_responses=request.include_response,
        media=request.destination.sibling(f"gemini_batch_staging_{sources.digest}_media")
        if request.media
        else None,
        results_filter=filters[0],
        errors_filter=filters[1],
    )


def _plan(
    request: LandingRequest,
    landing: Landing,
    sources: Sources,
    tables_created: tuple[datetime | None, ...],
    inputs: Sequence[Objects | JobTable | None],
) -> Plan:
    jobs = tuple(
        LandedJob(
            job,
            prices_of(job.model, job.name.location, job.latest_time or _LATEST, request.prices),
            _uri(given),
        )
        for job, given in zip(request.jobs, inputs, strict=True)
    )
    return Plan(
        landing,
        jobs,
        request.run,
        request.media,
        request.replaces,
        sources.staged,
        series=digest(_names(request.jobs), request.destination),
        digest=digest(
            sources.digest,
            landing.columns,
            tables_created,
            [price_parameters(each.prices) for each in jobs],
            landing_script(landing),
            request.media,
            [asked_rows(jobs[number].job) for number in sources.unknown],
        ),
    )


def _uri(given: Objects | JobTable | None) -> str | None:
    """The origin of all rows of a job, if they have the same."""
    if isinstance(given, JobTable):
        return f"bq://{given.name}"
    return given.uris[0] if given and len(given.uris) == 1 else None
