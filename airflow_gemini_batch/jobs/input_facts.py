"""What identifies the content of a job's input: metadata, and for a table, where needed, a checksum."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.gcp.wildcards import find, repeated
from airflow_gemini_batch.jobs.spec import Disputed, InputFacts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs
    from google.cloud.storage import Blob

    from airflow_gemini_batch.jobs.spec import JobSpec

log = logging.getLogger(__name__)

OBJECT_FIELDS = "name,size,crc32c"

# A checksum reads the whole table. At $6.25 per TB, this much costs six cents.
_MAX_CHECKSUM_BYTES = 10 * 1024**3


def inspect_input(spec: JobSpec, *, storage: gcs.Client, bigquery: bq.Client) -> InputFacts:
    """Read the metadata of the input. Empty if it does not exist, or no permission allows to read it."""
    from google.api_core.exceptions import Forbidden, NotFound

    try:
        return _table(spec, bigquery) if spec.input_table else _objects(spec, storage)
    except NotFound:
        return InputFacts(missing=spec.input_uris[0])
    except Forbidden:
        log.info("Skipping the check of the input: the credentials have no permission to read its metadata")
        return InputFacts()


def checksum(name: TableName, bigquery: bq.Client) -> tuple[str, ...] | None:
    """Query a checksum of the rows of an input table, whatever their order.

    ``None`` if the table is too large for that, or BigQuery refuses the query.
    """
    from google.api_core.exceptions import BadRequest, Forbidden

    try:
        table = bigquery.get_table(str(name))
        if (table.num_bytes or 0) > _MAX_CHECKSUM_BYTES:
            return None
        statement = render("jobs/checksum", table=str(name))
        (row,) = bigquery.query(statement, location=table.location).result()
    except (BadRequest, Forbidden) as error:
        # For example no permission to run queries, or a view whose query fails.
        log.info("The content of the input table is not compared: BigQuery answered %s", error.code)
        return None
    return (f"{row['all_rows']} {row['checksum']}",)


def content_of(blobs: Iterable[Blob]) -> tuple[str, ...]:
    """Return what identifies the content of objects, whatever their metadata and storage class.

    :param blobs: need the fields ``OBJECT_FIELDS``
    """
    return tuple(f"{blob.name} {blob.size} {blob.crc32c}" for blob in blobs)


def _objects(spec: JobSpec, storage: gcs.Client) -> InputFacts:
    content: list[str] = []
    disputed = None
    found = []
    for uri in spec.input_uris:
        matches = find(uri, storage, f"bucket,{OBJECT_FIELDS}")
        if not matches.objects:
            return InputFacts(missing=uri)
        found.append(matches)
        content += content_of(matches.objects)
        if matches.disputed:
            disputed = disputed or Disputed(uri, matches.disputed)
    facts = tuple(content)
    return InputFacts(content=facts, metadata=facts, disputed=disputed, repeated=repeated(found))


def _table(spec: JobSpec, bigquery: bq.Client) -> InputFacts:
    name = TableName.parse(spec.input_uris[0], parameter="input_uri")
    found = bigquery.get_table(str(name))
    # The rows of a view can change at any time.
    is_stored = found.table_type in (None, "TABLE", "SNAPSHOT")
    return InputFacts(
        metadata=(f"{found.num_rows} rows {found.num_bytes} bytes",),
        modified=found.modified if is_stored else datetime.max.replace(tzinfo=UTC),
        location=bigquery.get_dataset(name.dataset_id).location,
    )
