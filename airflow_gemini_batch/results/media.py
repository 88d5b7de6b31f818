"""Media in answers, such as images: stored as objects in Cloud Storage, which the results table refers to."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from google.cloud.bigquery import Client as BigQuery
    from google.cloud.bigquery import QueryJob, Row
    from google.cloud.storage import Bucket, Client

    from airflow_gemini_batch.gcp.table_name import TableName

# So many are on their way to Cloud Storage side by side, and as many come with a page.
_AT_ONCE = 4
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MediaFolder:
    """``gs://bucket/prefix``, without a slash at its end."""

    uri: str

    @classmethod
    def parse(cls, uri: str, parameter: str = "media_uri_prefix") -> MediaFolder:
        """Take a URI.

        :raises InvalidParameterError: it is not that of a bucket or of a folder in one
        """
        return cls(check_folder(parameter, uri))

    def store(self, found: TableName, bigquery: BigQuery, storage: Client) -> None:
        """Make an object of each row of a table; one that is there is left as it is.

        :param found: see ``media_found.sql``
        :raises MediaError: Cloud Storage refused
        """
        name, prefix = split_folder(self.uri)
        put = partial(_put, storage.bucket(name), prefix)
        # Paged by tokens, which hold on to one state of the table; a row may have 100 MB.
        rows = bigquery.list_rows(bigquery.get_table(str(found)), page_size=_AT_ONCE)
        done = Counter(_side_by_side(put, rows))
        if done[True]:
            log.info("Media of answers stored in %s: %s", self.uri, f"{done[True]:,}")
        if done[False]:
            log.warning(
                "Media of answers that are not base64, left in their responses: %s", f"{done[False]:,}"
            )


def find_media(script: str, found: TableName, location: str, bigquery: BigQuery) -> None:
    """Make the table of the media of a job's answers, once.

    :param script: see :func:`~airflow_gemini_batch.results.statements.media_script`
    :raises LandingError: BigQuery refused
    """

    def start(job_id: str) -> QueryJob:
        return bigquery.query(script, job_id=job_id, location=location, job_retry=None)

    def is_there(_job: QueryJob) -> bool:
        from google.api_core.exceptions import NotFound

        try:
            bigquery.get_table(str(found))
        except NotFound:
            return False
        return True

    bigquery_job.run(
        bigquery, location, [bigquery_job.Step(f"gemini-batch-media-{found.table}", start, is_there)]
    )


def _side_by_side(put: Callable[[Row], bool], rows: Iterable[Row]) -> Iterator[bool]:
    """Put a few at a time, while the next are fetched."""
    under_way: deque[Future[bool]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for row in rows:
            under_way.append(pool.submit(put, row))
            if len(under_way) == _AT_ONCE:
                yield under_way.popleft().result()
        for each in under_way:
            yield each.result()


def _put(bucket: Bucket, prefix: str, row: Row) -> bool:
    """Store one; return whether it could be read."""
    from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed

    if row["name"] is None:
        return False
    blob = bucket.blob(f"{prefix}{row['name']}")
    try:
        blob.upload_from_string(row["content"], content_type=row["mime_type"], if_generation_match=0)
    except PreconditionFailed:
        pass  # The name says that the content is the same.
    except GoogleAPICallError as error:
        reason = " ".join(error.message.split())
        raise MediaError(f"gs://{bucket.name}/{blob.name}", int(error.code or 0), reason) from error
    return True
