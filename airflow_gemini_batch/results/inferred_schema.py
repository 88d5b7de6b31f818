"""Inferred schema: the response schema in a job's own requests, for landings without ``response_schema``."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import ResponseSchemaError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.requests.response_schema import ResponseSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.bigquery import Client, QueryJob

MAX_SPELLINGS = 20
"""How many JSON texts of one schema are compared; they may differ in member order and nulls."""
log = logging.getLogger(__name__)


def infer_schema(
    script: str, stem: str, load: Callable[[], None], location: str, bigquery: Client
) -> ResponseSchema | None:
    """Infer the schema from the requests. A later landing reads the result of the same query job.

    :param script: see :func:`~airflow_gemini_batch.results.statements.schemas_script`
    :param stem: ID of the query job without the attempt number
    :param load: fills the staging table that the query reads
    :raises LandingError: BigQuery refused a request
    """

    def start(job_id: str) -> QueryJob:
        load()
        return bigquery.query(script, job_id=job_id, location=location, job_retry=None)

    (job,) = bigquery_job.run(bigquery, location, [bigquery_job.Step(stem, start, _is_kept)])
    return agreed([text for (text,) in job.result(job_retry=None)])


def _is_kept(job: QueryJob) -> bool:
    from google.api_core.exceptions import GoogleAPICallError

    try:
        job.result(job_retry=None)
    except GoogleAPICallError:
        return False
    return True


def agreed(texts: Sequence[str | None]) -> ResponseSchema | None:
    """Return the schema that all requests contain. If there is none, return ``None`` and log the reason.

    :param texts: the different schemas as JSON, at most :data:`MAX_SPELLINGS`; ``None`` stands for requests
        without one
    """
    inferred = _agreement(texts) if any(texts) else None
    if isinstance(inferred, str):
        log.warning("No typed columns: %s. The responses are in the column output", inferred)
        return None
    if inferred:
        log.info("Typed columns: using the schema inferred from the requests")
    return inferred


def _agreement(texts: Sequence[str | None]) -> ResponseSchema | str:
    """Return the schema, or the reason why there is none."""
    given = [text for text in texts if text is not None]
    if len(given) < len(texts) or len(given) >= MAX_SPELLINGS:
        return "the requests do not all have the same response schema"
    try:
        schemas = [ResponseSchema.of(json.loads(text)) for text in given]
    except ResponseSchemaError as error:
        return f"the inferred schema has no matching table columns, at {error.path}: {error.fix}"
    if any(each.for_request() != schemas[0].for_request() for each in schemas):
        return "the requests have different response schemas"
    return schemas[0]
