"""The BigQuery job that lands batch jobs.

Landings of the same batch jobs in one table run one after the other: their job IDs form a series, and
BigQuery accepts each ID once. A landing waits for the one that is running, and takes the next ID if that one
was another landing, for example with other options. This holds for BigQuery jobs of one project. Of others
that land a batch job at the same time, the script keeps the rows that were written last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import KeylessRowsError, LandingError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.results.cost import price_parameters, users_labels
from airflow_gemini_batch.results.media import find_media
from airflow_gemini_batch.results.outputs import asked_rows
from airflow_gemini_batch.results.row_counts import (
    Tables,
    count_not_replaced,
    is_complete,
    rivals_script,
)
from airflow_gemini_batch.results.staging import drop, stage
from airflow_gemini_batch.results.statements import landing_script, list_parameters, media_script
from airflow_gemini_batch.service import LONG_PROMPT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs
    from google.cloud.bigquery import ScalarQueryParameter

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.results.media import MediaFolder
    from airflow_gemini_batch.results.staging import Staged
    from airflow_gemini_batch.results.statements import Landing

PLAN_LABEL = "gemini_batch_landing"
"""Label of the BigQuery job with the digest of what it lands."""

# How much clocks of Google's services may differ, and more.
_CLOCKS = timedelta(days=1)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)

# The error that the script raises before it writes anything.
_KEYLESS = re.compile(r"(\d+) rows have no key and equal requests")


@dataclass(frozen=True)
class LandedJob:
    """A batch job that is landed.

    :param prices: of its model; ``None`` if unknown
    :param input_uri: the object or table that all its requests are from; ``None`` if there are several
    """

    job: BatchJob
    prices: BatchPrices | None
    input_uri: str | None

    @property
    def members(self) -> list[ScalarQueryParameter]:
        """The members of its STRUCT in the query parameter ``@jobs``, except its number."""
        from google.cloud import bigquery as bq

        job = self.job
        numbers = {
            "asked_rows": asked_rows(job),
            "charged_rows": job.stats.successful if job.state.is_success else None,
            **price_parameters(self.prices),
        }
        texts = {"name": str(job.name), "labels": users_labels(job.labels), "input_uri": self.input_uri}
        return [
            bq.ScalarQueryParameter("ended_at", "TIMESTAMP", job.latest_time),
            *(bq.ScalarQueryParameter(name, "INT64", value) for name, value in numbers.items()),
            *(bq.ScalarQueryParameter(name, "STRING", value) for name, value in texts.items()),
        ]


@dataclass(frozen=True)
class Plan:
    """One landing.

    :param media: where to store inline media of responses
    :param replaces: see :class:`LandingRequest`
    :param staged: the objects to load, by staging table
    :param jobs: in the order of their numbers
    :param series: of the batch jobs and the results table: one landing of a series runs at a time
    :param digest: of everything that decides what is landed: equal plans are the same landing
    """

    landing: Landing
    jobs: tuple[LandedJob, ...]
    run: RunIdentity
    media: MediaFolder | None
    replaces: tuple[str, ...]
    staged: dict[TableName, Staged]
    series: str
    digest: str

    @property
    def tables(self) -> Tables:
        """The tables that it writes."""
        landing = self.landing
        return Tables(landing.results, landing.errors, landing.results_filter, landing.errors_filter)

    @property
    def since(self) -> datetime:
        """No row of the jobs was landed before, by any clock."""
        created = [each.job.create_time for each in self.jobs]
        known = [time for time in created if time]
        return min(known) - _CLOCKS if len(known) == len(created) else _EVER

    @property
    def job_names(self) -> tuple[str, ...]:
        """The full resource names of the jobs."""
        return tuple(str(each.job.name) for each in self.jobs)


def run_landing(
    plan: Plan, location: str, bigquery: bq.Client, storage: gcs.Client
) -> dict[str, dict[str, Any]]:
    """Run the script, unless this landing has run before, and return the counts it ends with, by job name.

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
    # Other tasks may replace its rows as soon as it ends: two that truncate one table would go on for ever.
    is_same = partial(_is_same, plan)
    step = bigquery_job.Step(stem, start, partial(_is_landed, plan, bigquery), is_same)
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
    if any(each["rival_rows"] for each in counts.values()):
        _keep_latest(plan, location, bigquery, counts)
    return counts


def _keep_latest(
    plan: Plan, location: str, bigquery: bq.Client, counts: Mapping[str, Mapping[str, Any]]
) -> None:
    """Delete rows that two landings of a job have written at the same time, except those written last."""
    from google.cloud import bigquery as bq

    script = rivals_script(plan.tables)
    parameters = [
        bq.ArrayQueryParameter("job_names", "STRING", plan.job_names),
        bq.ScalarQueryParameter("since", "TIMESTAMP", plan.since),
    ]

    def start(job_id: str) -> bq.QueryJob:
        config = bq.QueryJobConfig(query_parameters=parameters)
        return bigquery.query(script, job_config=config, job_id=job_id, location=location, job_retry=None)

    times = sorted({each["landed_at"] for each in counts.values()})
    stem = f"gemini-batch-rivals-{bigquery_job.digest(plan.series, times)}"
    bigquery_job.run(bigquery, location, [bigquery_job.Step(stem, start, lambda _job: True)])


def _query_config(plan: Plan) -> bq.QueryJobConfig:
    from google.cloud import bigquery as bq

    run = plan.run
    texts = {"dag_id": run.dag_id, "task_id": run.task_id, "run_id": run.run_id}
    if plan.media:
        texts["media_uri_prefix"] = plan.media.uri
    numbers = {"map_index": run.map_index, "long_prompt_tokens": LONG_PROMPT_TOKENS}
    jobs = [
        bq.StructQueryParameter(None, bq.ScalarQueryParameter("number", "INT64", number), *each.members)
        for number, each in enumerate(plan.jobs)
    ]
    parameters: list[Any] = [
        bq.ArrayQueryParameter("jobs", "STRUCT", jobs),
        bq.ArrayQueryParameter("job_names", "STRING", plan.job_names),
        bq.ScalarQueryParameter("since", "TIMESTAMP", plan.since),
        *(bq.ScalarQueryParameter(name, "INT64", value) for name, value in numbers.items()),
        *(bq.ScalarQueryParameter(name, "STRING", value) for name, value in texts.items()),
        bq.ArrayQueryParameter("replaces", "STRING", plan.replaces),
        *(
            bq.ArrayQueryParameter(name, "STRING", values)
            for name, values in list_parameters(plan.landing).items()
        ),
    ]
    return bq.QueryJobConfig(query_parameters=parameters, labels={PLAN_LABEL: plan.digest})


def _counts(job: bq.QueryJob) -> dict[str, dict[str, Any]]:
    return {row["job_name"]: dict(row.items()) for row in job.result(job_retry=None)}


def _is_same(plan: Plan, job: bq.QueryJob) -> bool:
    return bool(job.labels.get(PLAN_LABEL) == plan.digest)


def _is_landed(plan: Plan, bigquery: bq.Client, job: bq.QueryJob) -> bool:
    """Whether a job was this landing and its rows are still there; its counts are kept for a day."""
    from google.api_core.exceptions import GoogleAPICallError

    if not _is_same(plan, job):
        return False
    try:
        counts = _counts(job)
    except GoogleAPICallError:
        return False
    tables, names = plan.tables, plan.job_names
    # Of landings that truncate, one keeps or deletes rows by the run that has landed them.
    if not is_complete(bigquery, tables, counts, plan.run if plan.landing.truncates else None):
        return False
    return not plan.replaces or not count_not_replaced(bigquery, tables, names, plan.replaces)
