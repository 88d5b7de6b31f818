"""Metadata of a job's input, without reading the input: whether it exists, has changed, and its location."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.gcs_uri import matching
from airflow_gemini_batch.gcp.table_name import TableName

if TYPE_CHECKING:
    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.jobs.spec import JobSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputFacts:
    """Metadata of the input.

    :param content: identifies the content: checksum and size of each object, or rows and bytes of the table
    :param location: of the table's dataset
    """

    content: tuple[str, ...] = ()
    location: str | None = None


def inspect_input(spec: JobSpec, *, storage: gcs.Client, bigquery: bq.Client) -> InputFacts:
    """Read the metadata of the input. Empty if the credentials have no permission to read it.

    :raises InvalidParameterError: the object or table does not exist
    """
    from google.api_core.exceptions import Forbidden, NotFound

    try:
        return _table(spec, bigquery) if spec.input_table else _objects(spec, storage)
    except NotFound:
        raise InvalidParameterError(
            "input_uri", list(spec.input_uris), "the object or table does not exist; check the name"
        ) from None
    except Forbidden:
        log.info("Skipping the check of the input: the credentials have no permission to read its metadata")
        return InputFacts()


def _objects(spec: JobSpec, storage: gcs.Client) -> InputFacts:
    content: list[str] = []
    for uri in spec.input_uris:
        found = matching(uri, storage, "bucket,name,size,crc32c")
        of_uri = [f"{blob.name} {blob.size} {blob.crc32c}" for blob in found]
        if not of_uri:
            raise InvalidParameterError("input_uri", uri, "no object matches; check the name")
        content += of_uri
    return InputFacts(content=tuple(content))


def _table(spec: JobSpec, bigquery: bq.Client) -> InputFacts:
    name = TableName.parse(spec.input_uris[0], parameter="input_uri")
    found = bigquery.get_table(str(name))
    location = bigquery.get_dataset(name.dataset_id).location
    return InputFacts(content=(f"{found.num_rows} rows {found.num_bytes} bytes",), location=location)
