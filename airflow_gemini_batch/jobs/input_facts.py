"""A look at a job's input, without reading it: is it there, has it changed, where does it lie."""

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
    """What a look at the input tells.

    :param content: the same for the same content: checksum and size of each object, or rows and bytes of a
        table
    :param location: where the dataset of a table lies
    """

    content: tuple[str, ...] = ()
    location: str | None = None


def look_at_input(spec: JobSpec, *, storage: gcs.Client, bigquery: bq.Client) -> InputFacts:
    """Look at the input. What these credentials may not see is left out.

    :raises InvalidParameterError: there is no such object or table
    """
    from google.api_core.exceptions import Forbidden, NotFound

    try:
        return _table(spec, bigquery) if spec.input_table else _objects(spec, storage)
    except NotFound:
        raise InvalidParameterError("input_uri", list(spec.input_uris), "it does not exist") from None
    except Forbidden:
        log.info("The input is not checked before submitting: no permission to look at it")
        return InputFacts()


def _objects(spec: JobSpec, storage: gcs.Client) -> InputFacts:
    content: list[str] = []
    for uri in spec.input_uris:
        found = matching(uri, storage, "bucket,name,size,crc32c")
        of_uri = [f"{blob.name} {blob.size} {blob.crc32c}" for blob in found]
        if not of_uri:
            raise InvalidParameterError("input_uri", uri, "there is no such object")
        content += of_uri
    return InputFacts(content=tuple(content))


def _table(spec: JobSpec, bigquery: bq.Client) -> InputFacts:
    name = TableName.parse(spec.input_uris[0], parameter="input_uri")
    found = bigquery.get_table(str(name))
    location = bigquery.get_dataset(name.dataset_id).location
    return InputFacts(content=(f"{found.num_rows} rows {found.num_bytes} bytes",), location=location)
