"""Where a report is kept: an object in Cloud Storage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError, ReportError
from airflow_gemini_batch.gcp.gcs_uri import BUCKET_PATTERN, split_uri

if TYPE_CHECKING:
    from google.cloud.storage import Client

    from airflow_gemini_batch.batch_job import JobName

_URI = re.compile(rf"{BUCKET_PATTERN}/[^*\r\n]+")


@dataclass(frozen=True)
class ReportPlace:
    """``gs://bucket/name``; a name that ends with ``/`` is a folder, and a page has its job's name in it."""

    bucket: str
    name: str

    @classmethod
    def parse(cls, uri: str, parameter: str = "report_uri") -> ReportPlace:
        """Take a URI.

        :raises InvalidParameterError: it is not the name of an object or a folder
        """
        if not isinstance(uri, str) or not _URI.fullmatch(uri):
            fix = "give an object, gs://bucket/name.html, or a folder, gs://bucket/folder/"
            raise InvalidParameterError(parameter, uri, fix)
        return cls(*split_uri(uri))

    def write(self, page: str, job_name: JobName, storage: Client) -> str:
        """Write the page of a job, over an earlier one.

        :return: the URI of its object
        :raises ReportError: it could not be written
        """
        from google.api_core.exceptions import GoogleAPICallError

        name = f"{self.name}{job_name.job_id}.html" if self.name.endswith("/") else self.name
        uri = f"gs://{self.bucket}/{name}"
        try:
            storage.bucket(self.bucket).blob(name).upload_from_string(
                page.encode(), content_type="text/html; charset=utf-8"
            )
        except GoogleAPICallError as error:
            reason = " ".join(error.message.split())
            raise ReportError(
                f"The report of {job_name} could not be written to {uri}: {reason} Its rows are landed, and "
                "a retry pays nothing and lands nothing again."
            ) from error
        return uri
