"""Staging tables: a job's output and input as raw lines in BigQuery, one column, one line per row."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import TableName, get_table
from airflow_gemini_batch.results.destination import create_table
from airflow_gemini_batch.results.outputs import JobTable, Objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.cloud.bigquery import Client, LoadJob, QueryJob

# CSV without quotes, split at a byte that JSON cannot contain: each line arrives unchanged, JSON or not. An
# invalid line may contain any byte, and must fail neither the load nor other lines.
_RAW_LINES = {
    "field_delimiter": "\x01",
    "quote_character": "",
    "preserve_ascii_control_characters": True,
}
# In a query, the name of the table that stands for the objects.
_OBJECTS = "lines_of_objects"

log = logging.getLogger(__name__)

# More than a few bad lines are not lines that are too large, but something that a user must see.
_MOST_SKIPPED = 100
# Where a line begins, in either of BigQuery's wordings, and its file.
_POSITION = re.compile(r"(?:position|byte_offset_to_start_of_line):?\s+(\d+)")
_FILE = re.compile(r"File: (gs://\S+)")

LIFE = timedelta(days=1)
"""When a staging table expires, in case a killed worker has not dropped it."""


@dataclass(frozen=True)
class Part:
    """A table with rows that jobs read or wrote.

    :param source: a staging table of raw lines in a column ``line``, or a job's own table
    :param job: the number of the job whose rows they are; ``None`` if the column ``job`` says it
    :param names_objects: whether the column ``object`` has the URI of the object that each line is from
    """

    source: TableName | JobTable
    job: int | None = 0
    names_objects: bool = False

    @property
    def is_lines(self) -> bool:
        """Whether it is a staging table."""
        return isinstance(self.source, TableName)

    @property
    def job_sql(self) -> str:
        """The number of a row's job, in GoogleSQL."""
        return "job" if self.job is None else str(self.job)

    @property
    def object_sql(self) -> str:
        """The URI of a row's object, in GoogleSQL; NULL if it is not told."""
        return "object" if self.names_objects else "CAST(NULL AS STRING)"


@dataclass(frozen=True)
class Staged:
    """Objects to load into one staging table.

    :param jobs: the number of each object's job; empty if the table need not say which line is from where
    """

    objects: Objects
    jobs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sources:
    """What a landing reads. Jobs are numbered from 0, in their order.

    :param responses: the output of all jobs
    :param requests: their input, except that of ``unknown``
    :param unknown: the jobs whose input has changed or no longer exists
    :param staged: the objects to load, by staging table
    :param digest: of the jobs, their input and output, and the settings of the landing
    """

    responses: tuple[Part, ...]
    requests: tuple[Part, ...]
    unknown: tuple[int, ...]
    staged: dict[TableName, Staged]
    digest: str

    @classmethod
    def of(
        cls,
        outputs: Sequence[Objects | JobTable],
        inputs: Sequence[Objects | JobTable | None],
        destination: TableName,
        digest: str,
        *,
        names_objects: bool = True,
    ) -> Sources:
        """Choose the names of the staging tables.

        :param outputs: of each job
        :param inputs: of each job; ``None`` if unknown
        :param destination: staging tables are created in its dataset
        :param names_objects: whether to tell from which of several objects a request is; a query does that
        """
        staged: dict[TableName, Staged] = {}

        def parts(
            places: Sequence[Objects | JobTable | None], role: str, *, names_objects: bool
        ) -> tuple[Part, ...]:
            tables = [Part(each, number) for number, each in enumerate(places) if isinstance(each, JobTable)]
            found = {number: each for number, each in enumerate(places) if isinstance(each, Objects)}
            if not found:
                return tuple(tables)
            table = destination.sibling(f"gemini_batch_staging_{digest}_{role}")
            versions = tuple(version for each in found.values() for version in each.versions)
            names_objects = names_objects and len(versions) > len(found)
            if len(found) == 1 and not names_objects:
                staged[table] = Staged(Objects(versions))
                return (*tables, Part(table, next(iter(found))))
            jobs = tuple(number for number, each in found.items() for _ in each.versions)
            staged[table] = Staged(Objects(versions), jobs)
            return (*tables, Part(table, None, names_objects))

        return cls(
            parts(outputs, "responses", names_objects=False),
            parts(inputs, "requests", names_objects=names_objects),
            tuple(number for number, each in enumerate(inputs) if each is None),
            staged,
            digest,
        )


def stage(bigquery: Client, location: str, places: Mapping[TableName, Staged]) -> None:
    """Load the objects into their tables, in parallel. Tables that an earlier try has filled are kept.

    For a line that BigQuery does not load, because it is larger than 100 MB, the table gets one that says
    where it is.

    :raises LandingError: a load failed
    """
    steps = [
        bigquery_job.Step(
            stem=f"gemini-batch-load-{table.table}",
            start=partial(_read if staged.jobs else _load, bigquery, location, table, staged),
            is_usable=partial(_is_loaded, bigquery, table),
        )
        for table, staged in places.items()
    ]
    jobs: list[LoadJob] = bigquery_job.run(bigquery, location, steps)
    notes = [
        bigquery_job.Step(
            stem=f"gemini-batch-note-{table.table}",
            start=partial(_note, bigquery, location, table, _references(job, staged.objects)),
            is_usable=partial(_is_noted, bigquery, table, job),
        )
        for (table, staged), job in zip(places.items(), jobs, strict=True)
        if _skipped(job)
    ]
    bigquery_job.run(bigquery, location, notes)


def _skipped(job: LoadJob) -> int:
    """Return how many lines a load has skipped."""
    # The client has no property for it.
    statistics: Mapping[str, Any] = job._properties.get("statistics", {}).get("load", {})
    return int(statistics.get("badRecords") or 0)


def _references(job: LoadJob, objects: Objects) -> list[str]:
    """Return, for each line that a load has skipped, a line that says where it is. It is not JSON."""
    messages = [error.get("message") or "" for error in job.errors or ()]
    # BigQuery may leave out some errors.
    return [reference(each, objects) for each in (messages + [""] * _skipped(job))[: _skipped(job)]]


def reference(message: str, objects: Objects) -> str:
    """Say where a line is that BigQuery has not loaded.

    :param message: BigQuery's about the line
    """
    file, position = _FILE.search(message), _POSITION.search(message)
    uri = file[1] if file and file[1] in objects.uris else None
    if not uri and len(objects.uris) == 1:
        (uri,) = objects.uris
    place = uri or f"one of the objects beside {objects.uris[0]}"
    at = f", at byte {position[1]}" if position and uri else ""
    return f"BigQuery does not load this line, which is larger than 100 MB: {place}{at}"


def _note(bigquery: Client, location: str, table: TableName, notes: list[str], job_id: str) -> QueryJob:
    from google.cloud.bigquery import ArrayQueryParameter, QueryJobConfig

    for each in notes:
        log.warning("%s. Its row is malformed", each)
    return bigquery.query(
        note_script(table),
        job_config=QueryJobConfig(query_parameters=[ArrayQueryParameter("notes", "STRING", notes)]),
        job_id=job_id,
        location=location,
        job_retry=None,
    )


def note_script(table: TableName) -> str:
    """Return the statement that adds lines to a staging table."""
    return render("results/note", table=table)


def _is_noted(bigquery: Client, table: TableName, loaded: LoadJob, _job: QueryJob) -> bool:
    found = get_table(bigquery, table)
    return found is not None and found.num_rows == (loaded.output_rows or 0) + _skipped(loaded)


def drop(bigquery: Client, tables: Iterable[TableName]) -> None:
    """Drop staging tables."""
    for table in tables:
        bigquery.delete_table(str(table), not_found_ok=True)


def _load(bigquery: Client, location: str, table: TableName, staged: Staged, job_id: str) -> LoadJob:
    """Load the lines. A load costs nothing, but does not tell from which object a line is."""
    from google.cloud.bigquery import LoadJobConfig, SchemaField, SourceFormat, WriteDisposition

    lines = [SchemaField("line", "STRING")]
    # BigQuery sets the time: a table that expires by a worker's clock may expire at once.
    create_table(staged_script(table, names_objects=False), table, bigquery, location)
    config = LoadJobConfig(
        source_format=SourceFormat.CSV,
        schema=lines,
        write_disposition=WriteDisposition.WRITE_TRUNCATE,
        ignore_unknown_values=True,
        **_RAW_LINES,
        max_bad_records=_MOST_SKIPPED,
    )
    return bigquery.load_table_from_uri(
        staged.objects.uris, str(table), job_id=job_id, location=location, job_config=config
    )


def _read(bigquery: Client, location: str, table: TableName, staged: Staged, job_id: str) -> QueryJob:
    """Copy the lines of objects of several jobs by a query, which can tell from which object a line is."""
    from google.cloud import bigquery as bq

    create_table(staged_script(table, names_objects=True), table, bigquery, location)
    lines = bq.ExternalConfig("CSV")
    # Jobs may share an object; its lines are read once, and joined with each of them.
    lines.source_uris = list(dict.fromkeys(staged.objects.uris))
    lines.schema = [bq.SchemaField("line", "STRING")]
    lines.ignore_unknown_values = True
    lines.csv_options = bq.CSVOptions()  # type: ignore[no-untyped-call]
    for name, value in _RAW_LINES.items():
        setattr(lines.csv_options, name, value)
    pairs = zip(staged.objects.uris, staged.jobs, strict=True)
    config = bq.QueryJobConfig(
        table_definitions={_OBJECTS: lines},
        destination=str(table),
        write_disposition=bq.WriteDisposition.WRITE_TRUNCATE,
        query_parameters=[
            bq.ArrayQueryParameter(
                "objects",
                "STRUCT",
                [
                    bq.StructQueryParameter(
                        None,
                        bq.ScalarQueryParameter("uri", "STRING", uri),
                        bq.ScalarQueryParameter("job", "INT64", job),
                    )
                    for uri, job in pairs
                ],
            )
        ],
    )
    return bigquery.query(
        objects_script(), job_config=config, job_id=job_id, location=location, job_retry=None
    )


def objects_script() -> str:
    """Return the query that reads the lines of ``@objects``, with the number of each line's job."""
    return render("results/objects", objects=_OBJECTS)


def staged_script(table: TableName, *, names_objects: bool) -> str:
    """Return the statement that creates a staging table.

    :param names_objects: whether it says from which job and object each line is
    """
    hours = int(LIFE / timedelta(hours=1))
    return render("results/staged", table=table, hours=hours, names_objects=names_objects)


def _is_loaded(bigquery: Client, table: TableName, job: LoadJob | QueryJob) -> bool:
    from google.cloud.bigquery import LoadJob

    found = get_table(bigquery, table)
    if found is None or found.num_rows is None:
        return False
    if not isinstance(job, LoadJob):
        return bool(found.num_rows == job.result(max_results=0).total_rows)
    return job.output_rows is not None and found.num_rows in (
        job.output_rows,
        job.output_rows + _skipped(job),
    )
