"""Where a report is stored: an object in Cloud Storage."""

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
    """``gs://bucket/name``; in a folder, a name that ends with ``/``, each page is named after its job."""

    bucket: str
    name: str

    @classmethod
    def parse(cls, uri: str, parameter: str = "report_uri") -> ReportPlace:
        """Parse a URI.

        :raises InvalidParameterError: it is not the URI of an object or folder
        """
        if not isinstance(uri, str) or not _URI.fullmatch(uri):
            fix = "give an object, gs://bucket/name.html, or a folder, gs://bucket/folder/"
            raise InvalidParameterError(parameter, uri, fix)
        return cls(*split_uri(uri))

    @property
    def uri(self) -> str:
        """As it was given."""
        return f"gs://{self.bucket}/{self.name}"

    @property
    def is_folder(self) -> bool:
        """Whether each job has a page of its own there."""
        return self.name.endswith("/")

    def write(self, page: str, job_name: JobName, storage: Client) -> str:
        """Write the page of a job, replacing an earlier one.

        :return: the URI of the object
        :raises ReportError: Cloud Storage refused the upload
        """
        from google.api_core.exceptions import GoogleAPICallError

        name = f"{self.name}{job_name.job_id}.html" if self.is_folder else self.name
        uri = f"gs://{self.bucket}/{name}"
        try:
            storage.bucket(self.bucket).blob(name).upload_from_string(
                page.encode(), content_type="text/html; charset=utf-8"
            )
        except GoogleAPICallError as error:
            reason = " ".join(error.message.split())
            raise ReportError(
                f"Could not write the report of {job_name} to {uri}: {reason} The rows are landed. A retry "
                "costs nothing and does not land them again."
            ) from error
        return uri
