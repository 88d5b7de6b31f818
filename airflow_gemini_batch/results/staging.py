"""Output and input of a job as raw lines in BigQuery: one column, a line a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.results.outputs import JobTable, Objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.cloud.bigquery import Client, LoadJob

    from airflow_gemini_batch.gcp.table_name import TableName

LIFE = timedelta(days=1)
"""After it, a staging table that a killed worker has left is gone."""


@dataclass(frozen=True)
class Sources:
    """What a landing reads.

    :param answers: a staging table, or the job's output table
    :param requests: the same of the input; ``None`` when it cannot be read any more
    :param staged: the objects to load, by staging table
    :param digest: stands for the job, what it read and wrote, and what was asked of the landing
    """

    answers: TableName | JobTable
    requests: TableName | JobTable | None
    staged: dict[TableName, Objects]
    digest: str

    @classmethod
    def of(
        cls, output: Objects | JobTable, given: Objects | JobTable | None, beside: TableName, digest: str
    ) -> Sources:
        """Name the staging tables.

        :param beside: the table that they lie beside
        """
        staged: dict[TableName, Objects] = {}

        def source(place: Objects | JobTable, role: str) -> TableName | JobTable:
            if isinstance(place, JobTable):
                return place
            table = beside.sibling(f"gemini_batch_staging_{digest}_{role}")
            staged[table] = place
            return table

        answers = source(output, "answers")
        return cls(answers, source(given, "requests") if given else None, staged, digest)


def stage(bigquery: Client, location: str, places: Mapping[TableName, Objects]) -> None:
    """Load the objects into their tables, side by side; what an earlier try has loaded is kept.

    :raises LandingError: when a load fails
    """
    steps = [
        bigquery_job.Step(
            stem=f"gemini-batch-load-{table.table}",
            start=partial(_load, bigquery, location, table, objects),
            is_usable=partial(_is_there, bigquery, table),
        )
        for table, objects in places.items()
    ]
    bigquery_job.run(bigquery, location, steps)


def drop(bigquery: Client, tables: Iterable[TableName]) -> None:
    """Drop staging tables."""
    for table in tables:
        bigquery.delete_table(str(table), not_found_ok=True)


def _load(bigquery: Client, location: str, table: TableName, objects: Objects, job_id: str) -> LoadJob:
    from google.cloud.bigquery import LoadJobConfig, SchemaField, SourceFormat, Table, WriteDisposition

    lines = [SchemaField("line", "STRING")]
    staging = Table(str(table), lines)
    staging.expires = datetime.now(UTC) + LIFE
    bigquery.create_table(staging, exists_ok=True)
    # CSV without quotes, split at a byte that JSON never holds: each line arrives as it is, JSON or not.
    config = LoadJobConfig(
        source_format=SourceFormat.CSV,
        field_delimiter="\x01",
        quote_character="",
        schema=lines,
        write_disposition=WriteDisposition.WRITE_TRUNCATE,
        # A broken line may hold anything: it must fail neither the load nor other lines.
        ignore_unknown_values=True,
        preserve_ascii_control_characters=True,
    )
    return bigquery.load_table_from_uri(
        objects.uris, str(table), job_id=job_id, location=location, job_config=config
    )


def _is_there(bigquery: Client, table: TableName, job: LoadJob) -> bool:
    from google.api_core.exceptions import NotFound

    try:
        rows: int | None = bigquery.get_table(str(table)).num_rows
    except NotFound:
        return False
    return rows is not None and rows == job.output_rows
