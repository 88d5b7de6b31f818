"""The link from a task to its job in the Google Cloud console."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.service import CONSOLE, JOB_PAGE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey


class BatchJobLink(BaseOperatorLink):
    """Opens the batch job in the console. Available as soon as the job exists, while the task still waits."""

    name = "Batch job"
    xcom_key = "gemini_batch_job"

    @classmethod
    def persist(cls, context: Context, job_name: JobName) -> None:
        """Store the job's console URL for the link."""
        context["ti"].xcom_push(key=cls.xcom_key, value=console_url(job_name))

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, or an empty string while there is no job."""
        url = XCom.get_value(key=self.xcom_key, ti_key=ti_key)
        # Whoever may write XCom could have stored any URL, such as one with a script.
        return url if isinstance(url, str) and url.startswith(CONSOLE) else ""


def console_url(job_name: JobName | str) -> str:
    """The URL of a job in the Google Cloud console; empty if ``job_name`` is not a job name."""
    try:
        name = job_name if isinstance(job_name, JobName) else JobName.parse(job_name)
    except InvalidParameterError:
        return ""
    return JOB_PAGE.format(
        location=quote(name.location), job_id=quote(name.job_id), project=quote(name.project)
    )
