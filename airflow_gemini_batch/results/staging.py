"""Staging tables: a job's output and input as raw lines in BigQuery, one column, one line per row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import get_table
from airflow_gemini_batch.results.destination import create_table
from airflow_gemini_batch.results.outputs import JobTable, Objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.cloud.bigquery import Client, LoadJob

    from airflow_gemini_batch.gcp.table_name import TableName

LIFE = timedelta(days=1)
"""When a staging table expires, in case a killed worker has not dropped it."""


@dataclass(frozen=True)
class Sources:
    """What a landing reads.

    :param responses: a staging table, or the job's output table
    :param requests: the same for the input; ``None`` if it has changed or no longer exists
    :param staged: the objects to load, by staging table
    :param digest: of the job, its input and output, and the settings of the landing
    """

    responses: TableName | JobTable
    requests: TableName | JobTable | None
    staged: dict[TableName, Objects]
    digest: str

    @classmethod
    def of(
        cls, output: Objects | JobTable, given: Objects | JobTable | None, destination: TableName, digest: str
    ) -> Sources:
        """Choose the names of the staging tables.

        :param given: the job's input
        :param destination: staging tables are created in its dataset
        """
        staged: dict[TableName, Objects] = {}

        def source(place: Objects | JobTable, role: str) -> TableName | JobTable:
            if isinstance(place, JobTable):
                return place
            table = destination.sibling(f"gemini_batch_staging_{digest}_{role}")
            staged[table] = place
            return table

        responses = source(output, "responses")
        return cls(responses, source(given, "requests") if given else None, staged, digest)


def stage(bigquery: Client, location: str, places: Mapping[TableName, Objects]) -> None:
    """Load the objects into their tables, in parallel. Tables that an earlier try has filled are kept.

    :raises LandingError: a load failed
    """
    steps = [
        bigquery_job.Step(
            stem=f"gemini-batch-load-{table.table}",
            start=partial(_load, bigquery, location, table, objects),
            is_usable=partial(_is_loaded, bigquery, table),
        )
        for table, objects in places.items()
    ]
    bigquery_job.run(bigquery, location, steps)


def drop(bigquery: Client, tables: Iterable[TableName]) -> None:
    """Drop staging tables."""
    for table in tables:
        bigquery.delete_table(str(table), not_found_ok=True)


def _load(bigquery: Client, location: str, table: TableName, objects: Objects, job_id: str) -> LoadJob:
    from google.cloud.bigquery import LoadJobConfig, SchemaField, SourceFormat, WriteDisposition

    lines = [SchemaField("line", "STRING")]
    # BigQuery sets the time: a table that expires by a worker's clock may expire at once.
    create_table(staged_script(table), table, bigquery, location)
    # CSV without quotes, split at a byte that JSON cannot contain: each line arrives unchanged, JSON or not.
    config = LoadJobConfig(
        source_format=SourceFormat.CSV,
        field_delimiter="\x01",
        quote_character="",
        schema=lines,
        write_disposition=WriteDisposition.WRITE_TRUNCATE,
        # An invalid line may contain any byte, and must fail neither the load nor other lines.
        ignore_unknown_values=True,
        preserve_ascii_control_characters=True,
    )
    return bigquery.load_table_from_uri(
        objects.uris, str(table), job_id=job_id, location=location, job_config=config
    )


def staged_script(table: TableName) -> str:
    """Return the statement that creates a staging table."""
    return render("results/staged", table=table, hours=int(LIFE / timedelta(hours=1)))


def _is_loaded(bigquery: Client, table: TableName, job: LoadJob) -> bool:
    found = get_table(bigquery, table)
    return found is not None and found.num_rows is not None and found.num_rows == job.output_rows
