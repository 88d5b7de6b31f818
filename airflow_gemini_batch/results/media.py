"""Media in responses, such as images: stored as Cloud Storage objects that the results table refers to."""

from __future__ import annotations

import logging
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import MediaError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.gcp.gcs_uri import check_folder, split_folder
from airflow_gemini_batch.gcp.table_name import get_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from google.cloud.bigquery import Client as BigQuery
    from google.cloud.bigquery import QueryJob, Row
    from google.cloud.storage import Bucket, Client

    from airflow_gemini_batch.gcp.table_name import TableName

# How many uploads run in parallel, and how many rows a page has.
_AT_ONCE = 4
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MediaFolder:
    """``gs://bucket/prefix``, without a trailing slash."""

    uri: str

    @classmethod
    def parse(cls, uri: str, parameter: str = "media_uri_prefix") -> MediaFolder:
        """Parse a URI.

        :raises InvalidParameterError: it is not the URI of a bucket or folder
        """
        return cls(check_folder(parameter, uri))

    def store(self, found: TableName, bigquery: BigQuery, storage: Client) -> None:
        """Store each row of a table as an object. Objects that already exist are left unchanged.

        :param found: the table that ``media_found.sql`` fills
        :raises MediaError: Cloud Storage refused an upload
        """
        name, prefix = split_folder(self.uri)
        put = partial(_put, storage.bucket(name), prefix)
        # Page tokens keep reading one snapshot of the table; a single row may have 100 MB.
        rows = bigquery.list_rows(bigquery.get_table(str(found)), page_size=_AT_ONCE)
        done = Counter(_in_parallel(put, rows))
        if done[True]:
            log.info("Stored media of responses in %s: %s objects", self.uri, f"{done[True]:,}")
        if done[False]:
            log.warning(
                "Left media that are not valid base64 in their responses: %s parts",
                f"{done[False]:,}",
            )


def find_media(script: str, found: TableName, location: str, bigquery: BigQuery) -> None:
    """Fill the staging table of media, unless an earlier try has.

    :param script: see :func:`~airflow_gemini_batch.results.statements.media_script`
    :raises LandingError: BigQuery refused a request
    """

    def start(job_id: str) -> QueryJob:
        return bigquery.query(script, job_id=job_id, location=location, job_retry=None)

    def exists(_job: QueryJob) -> bool:
        return get_table(bigquery, found) is not None

    bigquery_job.run(
        bigquery, location, [bigquery_job.Step(f"gemini-batch-media-{found.table}", start, exists)]
    )


def _in_parallel(put: Callable[[Row], bool], rows: Iterable[Row]) -> Iterator[bool]:
    """Upload a few at a time while the next rows are fetched."""
    running: deque[Future[bool]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for row in rows:
            running.append(pool.submit(put, row))
            if len(running) == _AT_ONCE:
                yield running.popleft().result()
        for each in running:
            yield each.result()


def _put(bucket: Bucket, prefix: str, row: Row) -> bool:
    """Upload one; return whether its base64 was valid."""
    from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed

    if row["name"] is None:
        return False
    blob = bucket.blob(f"{prefix}{row['name']}")
    try:
        blob.upload_from_string(row["content"], content_type=row["mime_type"], if_generation_match=0)
    except PreconditionFailed:
        pass  # It exists; the same name means the same content.
    except GoogleAPICallError as error:
        reason = " ".join(error.message.split())
        raise MediaError(f"gs://{bucket.name}/{blob.name}", int(error.code or 0), reason) from error
    return True
