"""The links from a task to its job, its output and its results in the Google Cloud console."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_gemini_batch.service import CONSOLE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.gcp.table_name import TableName


class _ConsoleLink(BaseOperatorLink):
    """A link whose URL the task stores in XCom as soon as it is known, while the task still works."""

    xcom_key: ClassVar[str]

    @classmethod
    def store(cls, context: Context, url: str) -> None:
        """Store the URL; an empty one is no link."""
        if url:
            context["ti"].xcom_push(key=cls.xcom_key, value=url)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, or an empty string while there is none."""
        url = XCom.get_value(key=self.xcom_key, ti_key=ti_key)
        # Whoever may write XCom could have stored any URL, such as one with a script.
        return url if isinstance(url, str) and url.startswith(CONSOLE) else ""


class BatchJobLink(_ConsoleLink):
    """Opens the batch job in the console. Available as soon as the job exists, while the task still waits."""

    name = "Batch job"
    xcom_key = "gemini_batch_job"

    @classmethod
    def persist(cls, context: Context, job_name: JobName) -> None:
        """Store the job's console URL for the link."""
        from airflow_gemini_batch.gcp.console import job_page

        cls.store(context, job_page(job_name))


class OutputLink(_ConsoleLink):
    """Opens the folder or table with the output of the job, or where the job was asked to write it."""

    name = "Output"
    xcom_key = "gemini_batch_output"

    @classmethod
    def persist(cls, context: Context, job: BatchJob, output_uri: str | None = None) -> None:
        """Store the URL.

        :param output_uri: where the output will be, if the job does not say
        """
        from airflow_gemini_batch.gcp.console import place_page

        cls.store(context, place_page(job.known_output or job.output_uri or output_uri, job.name.project))


class ResultsTableLink(_ConsoleLink):
    """Opens the table in which the results are landed."""

    name = "Results table"
    xcom_key = "gemini_batch_results_table"


class ErrorTableLink(_ConsoleLink):
    """Opens the table of the rows that did not succeed."""

    name = "Error table"
    xcom_key = "gemini_batch_error_table"


COST_KEY = "gemini_batch_cost."
"""Begins the key of an XCom with what jobs have cost, in US dollars by their names, which the page reads."""


class ReportLink(_ConsoleLink):
    """Opens the report about the job in Cloud Storage, or the folder of the reports about several jobs."""

    name = "Report"
    xcom_key = "gemini_batch_report"

    @classmethod
    def persist(cls, context: Context, uri: str, project: str) -> None:
        """Store the URL."""
        from airflow_gemini_batch.gcp.console import place_page

        cls.store(context, place_page(uri, project))


def store_tables(context: Context, results: TableName, errors: TableName) -> None:
    """Store the URLs of the two tables of a landing."""
    from airflow_gemini_batch.gcp.console import table_page

    ResultsTableLink.store(context, table_page(results))
    ErrorTableLink.store(context, table_page(errors))


JOB_LINKS: tuple[BaseOperatorLink, ...] = (BatchJobLink(), OutputLink())
LANDING_LINKS: tuple[BaseOperatorLink, ...] = (*JOB_LINKS, ResultsTableLink(), ErrorTableLink(), ReportLink())
