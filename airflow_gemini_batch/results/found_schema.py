"""The response schema that a job's own requests ask for, when nobody gives one."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import ResponseSchemaError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.columns import result_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.bigquery import Client, QueryJob

MAX_SPELLINGS = 20
"""Texts that may mean the same schema: members in another order, nulls. More of them do not agree."""
log = logging.getLogger(__name__)


def find_schema(
    script: str, stem: str, load: Callable[[], None], location: str, bigquery: Client
) -> ResponseSchema | None:
    """Ask the requests for their schema, once: a later landing reads the answer that BigQuery has kept.

    :param script: see :func:`~airflow_gemini_batch.results.statements.schemas_script`
    :param stem: of the query's id
    :param load: makes the table that it reads
    :raises LandingError: BigQuery refused
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
    """Return the schema that all requests ask for; ``None``, and why in the log, if there is none.

    :param texts: the different schemas as JSON, :data:`MAX_SPELLINGS` at most; ``None`` for a request
        without one
    """
    found = _agreement(texts) if any(texts) else None
    if isinstance(found, str):
        log.warning("No typed columns: %s. The answers are in the column output", found)
        return None
    if found:
        log.info("The typed columns are those of the response schema that the requests ask for")
    return found


def _agreement(texts: Sequence[str | None]) -> ResponseSchema | str:
    """The schema, or why there is none."""
    given = [text for text in texts if text is not None]
    if len(given) < len(texts) or len(given) >= MAX_SPELLINGS:
        return "the requests do not all ask for one schema"
    try:
        schemas = [ResponseSchema.of(json.loads(text)) for text in given]
        result_columns(schemas[0])
    except ResponseSchemaError as error:
        return f"the schema of the requests cannot be a table, at {error.path}: {error.fix}"
    if any(each.for_request() != schemas[0].for_request() for each in schemas):
        return "the requests ask for different schemas"
    return schemas[0]
