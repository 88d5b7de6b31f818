"""The BigQuery job that lands a batch job.

Landings of one batch job in one table run one after the other: their job IDs form a series, and BigQuery
accepts each ID once. A landing waits for the one that is running, and takes the next ID if that one was
another landing, for example with other options. This holds for BigQuery jobs of one project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import KeylessRowsError, LandingError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.results.cost import price_parameters, users_labels
from airflow_gemini_batch.results.media import find_media
from airflow_gemini_batch.results.outputs import asked_rows
from airflow_gemini_batch.results.row_counts import Tables, count_not_replaced, is_complete
from airflow_gemini_batch.results.staging import drop, stage
from airflow_gemini_batch.results.statements import landing_script, list_parameters, media_script
from airflow_gemini_batch.service import LONG_PROMPT_TOKENS

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.results.media import MediaFolder
    from airflow_gemini_batch.results.outputs import Objects
    from airflow_gemini_batch.results.statements import Landing

PLAN_LABEL = "gemini_batch_landing"
"""Label of the BigQuery job with the digest of what it lands."""

# The error that the script raises before it writes anything.
_KEYLESS = re.compile(r"(\d+) rows have no key and equal requests")


@dataclass(frozen=True)
class Plan:
    """One landing.

    :param media: where to store inline media of responses
    :param replaces: see :class:`LandingRequest`
    :param staged: the objects to load, by staging table
    :param series: of the batch job and the results table: one landing of a series runs at a time
    :param digest: of everything that decides what is landed: equal plans are the same landing
    """

    landing: Landing
    job: BatchJob
    run: RunIdentity
    media: MediaFolder | None
    replaces: tuple[str, ...]
    staged: dict[TableName, Objects]
    series: str
    digest: str


def run_landing(plan: Plan, location: str, bigquery: bq.Client, storage: gcs.Client) -> dict[str, Any]:
    """Run the script, unless this landing has run before, and return the counts it ends with.

    :raises KeylessRowsError: a merge would drop answers, because requests without a key are equal
    :raises LandingError: BigQuery refused a request
    """
    media = plan.landing.media

    @cache  # After a conflict with another transaction the script starts again.
    def store_media() -> None:
        if media and plan.media:
            find_media(media_script(plan.landing), media, location, bigquery)
            plan.media.store(media, bigquery, storage)

    def start(job_id: str) -> bq.QueryJob:
        stage(bigquery, location, plan.staged)
        store_media()
        return bigquery.query(
            landing_script(plan.landing),
            job_config=_query_config(plan),
            job_id=job_id,
            location=location,
            job_retry=None,
        )

    stem = f"gemini-batch-land-{plan.series}"
    step = bigquery_job.Step(stem, start, partial(_is_landed, plan, bigquery))
    clean_up = partial(drop, bigquery, [*plan.staged, *filter(None, [media])])
    try:
        (job,) = bigquery_job.run(bigquery, location, [step])
        counts = _counts(job)
    except LandingError as error:
        if not (found := _KEYLESS.search(str(error))):
            raise
        clean_up()
        raise KeylessRowsError(str(plan.landing.results), int(found[1])) from None
    clean_up()
    return counts


def _query_config(plan: Plan) -> bq.QueryJobConfig:
    from google.cloud import bigquery as bq

    run, job = plan.run, plan.job
    texts = {
        "job_name": str(job.name),
        "dag_id": run.dag_id,
        "task_id": run.task_id,
        "run_id": run.run_id,
        "job_labels": users_labels(job.labels),
    }
    if plan.media:
        texts["media_uri_prefix"] = plan.media.uri
    numbers = {
        "map_index": run.map_index,
        "asked_rows": asked_rows(job),
        "charged_rows": job.stats.successful if job.state.is_success else None,
        "long_prompt_tokens": LONG_PROMPT_TOKENS,
        **price_parameters(plan.landing.prices),
    }
    parameters: list[Any] = [
        bq.ScalarQueryParameter("job_time", "TIMESTAMP", job.latest_time),
        *(bq.ScalarQueryParameter(name, "INT64", value) for name, value in numbers.items()),
        *(bq.ScalarQueryParameter(name, "STRING", value) for name, value in texts.items()),
        bq.ArrayQueryParameter("replaces", "STRING", plan.replaces),
        *(
            bq.ArrayQueryParameter(name, "STRING", values)
            for name, values in list_parameters(plan.landing).items()
        ),
    ]
    return bq.QueryJobConfig(query_parameters=parameters, labels={PLAN_LABEL: plan.digest})


def _counts(job: bq.QueryJob) -> dict[str, Any]:
    (row,) = job.result(job_retry=None)
    return dict(row.items())


def _is_landed(plan: Plan, bigquery: bq.Client, job: bq.QueryJob) -> bool:
    """Whether a job was this landing and its rows are still there; its counts are kept for a day."""
    from google.api_core.exceptions import GoogleAPICallError

    if job.labels.get(PLAN_LABEL) != plan.digest:
        return False
    try:
        counts = _counts(job)
    except GoogleAPICallError:
        return False
    tables, name = Tables(plan.landing.results, plan.landing.errors), str(plan.job.name)
    # Of landings that truncate, one keeps or deletes rows by the run that has landed them.
    if not is_complete(bigquery, tables, name, counts, plan.run if plan.landing.truncates else None):
        return False
    return not plan.replaces or not count_not_replaced(bigquery, tables, name, plan.replaces)
