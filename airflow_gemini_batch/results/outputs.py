"""Where a job's output and input are stored: Cloud Storage objects, or a BigQuery table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import OutputNotFoundError
from airflow_gemini_batch.gcp.gcs_uri import split_uri, uri_of
from airflow_gemini_batch.gcp.table_name import TableName, get_table
from airflow_gemini_batch.gcp.wildcards import find
from airflow_gemini_batch.jobs.identity import Mark, content_key
from airflow_gemini_batch.jobs.input_facts import OBJECT_FIELDS, checksum, content_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from google.cloud import bigquery as bq
    from google.cloud.storage import Blob, Client

    from airflow_gemini_batch.batch_job import BatchJob

# `predictions.jsonl`, shards such as `predictions.jsonl-00000-of-00002`, `incremental_predictions.jsonl`.
_PREDICTIONS = re.compile(r"(?:.*/)?(?:incremental_)?predictions[^/]*")
_FIELDS = f"bucket,generation,timeCreated,{OBJECT_FIELDS}"
# The times of a job and of its input come from different services.
_SLACK = timedelta(seconds=1)


@dataclass(frozen=True)
class Objects:
    """Objects in Cloud Storage, each as ``gs://bucket/name`` with its generation."""

    versions: tuple[tuple[str, int], ...]

    @property
    def uris(self) -> list[str]:
        """``gs://bucket/name`` of each object."""
        return [uri for uri, _ in self.versions]

    @property
    def bucket(self) -> str:
        """The bucket of the first object."""
        return split_uri(self.versions[0][0])[0]


@dataclass(frozen=True)
class JobTable:
    """A table that the job read or wrote.

    :param column_types: types by column name, such as ``{"request": "JSON", "key": "STRING"}``
    :param modified: when it was last changed
    """

    name: TableName
    column_types: Mapping[str, str]
    modified: datetime | None

    @property
    def quoted(self) -> str:
        """The table's name in GoogleSQL."""
        return self.name.quoted


def find_output(
    job: BatchJob, storage: Client, bigquery: bq.Client, *, consequence: str = "Nothing was landed."
) -> Objects | JobTable:
    """Find the job's output.

    :param consequence: what it means that there is none, for the error; empty if somebody else says it
    :raises OutputNotFoundError: there is nothing to land
    """
    if not job.state.is_terminal:
        raise OutputNotFoundError(
            job,
            f"Batch job {job.name} is {job.state.name}: it has not ended, and goes on. Set "
            "wait_for_completion=True on the task that submits it, or put a GeminiBatchJobSensor before this "
            "task, then clear this task.",
        )
    location = job.output_location or ""
    if not location.startswith("gs://"):
        return _output_table(job, bigquery, consequence)
    bucket, prefix = split_uri(location.rstrip("/") + "/")
    blobs = storage.list_blobs(bucket, prefix=prefix, fields="items(bucket,name,generation),nextPageToken")
    found = _objects(blob for blob in blobs if is_predictions(blob.name))
    if not found.versions:
        raise OutputNotFoundError(
            job,
            _sentences(
                f"Batch job {job.name} ended as {job.state.name} ({job.stats}) and left no predictions in "
                f"{location}.",
                consequence,
                "If it should have output, look for objects with other names there.",
            ),
        )
    return found


def is_predictions(name: str) -> bool:
    """Whether an object in the folder of an output has rows, by its name."""
    return bool(_PREDICTIONS.fullmatch(name))


def find_input(job: BatchJob, storage: Client, bigquery: bq.Client) -> Objects | JobTable | None:
    """Find the job's input; ``None`` if it no longer exists, or has changed since the job was created.

    What was written later may still have the same content, such as an object that was moved to another
    storage class, or a table whose description was changed: the job's mark tells.
    """
    if not job.input_uris:
        return None
    mark = Mark.read(job)
    known = mark.content if mark else None
    if job.input_uris[0].startswith("bq://"):
        name = TableName.parse(job.input_uris[0], parameter="input_uri")
        table = _table(name, bigquery)
        is_same = table and (
            not _is_later(table.modified, job) or (known and _key(checksum(name, bigquery)) == known)
        )
        return table if is_same else None
    matches = [find(uri, storage, _FIELDS) for uri in job.input_uris]
    blobs = [blob for each in matches for blob in each.objects]
    across = [blob for each in matches for blob in each.across]
    if known:
        # Since the job was created, the readings of a wildcard may have come to differ.
        blobs = next((found for found in (blobs, across) if _key(content_of(found)) == known), [])
    elif any(_is_later(blob.time_created, job) for blob in blobs):
        return None
    return _objects(blobs) if blobs else None


def _key(content: tuple[str, ...] | None) -> str | None:
    return content_key(content) if content else None


def asked_rows(job: BatchJob) -> int | None:
    """Return the number of rows of the job's input as the service reports it; ``None`` if it does not."""
    stats = job.stats
    if stats.successful is None or stats.failed is None:
        return None
    return stats.successful + stats.failed + (stats.incomplete or 0)


def _is_later(changed: datetime | None, job: BatchJob) -> bool:
    """Whether something changed after the job was created, which may have read it only later."""
    created = job.create_time or job.start_time
    return bool(changed and created and changed > created + _SLACK)


def _sentences(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _output_table(job: BatchJob, bigquery: bq.Client, consequence: str) -> JobTable:
    if place := job.output_table:
        table = _table(TableName.parse(place, parameter="output_uri"), bigquery)
        if table:
            return table
        raise OutputNotFoundError(
            job,
            _sentences(
                f"Batch job {job.name} ended as {job.state.name}, but its output table {place} does not "
                f"exist. Rows: {job.stats}.",
                consequence,
            ),
        )
    raise OutputNotFoundError(
        job,
        _sentences(
            f"Batch job {job.name} ended as {job.state.name} and does not say where its output is. Rows: "
            f"{job.stats}.",
            consequence,
            "If rows were completed, look for what the job has written at "
            f"{job.output_uri or 'the output_uri of the task that submitted it'}.",
        ),
    )


def _table(name: TableName, bigquery: bq.Client) -> JobTable | None:
    table = get_table(bigquery, name)
    if table is None:
        return None
    return JobTable(name, {field.name: field.field_type for field in table.schema}, table.modified)


def _objects(blobs: Iterable[Blob]) -> Objects:
    return Objects(tuple(sorted({(uri_of(blob), int(blob.generation or 0)) for blob in blobs})))
