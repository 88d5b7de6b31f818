"""Pages of the Google Cloud console. Their addresses are not documented; these are those in use in 2026."""

from __future__ import annotations

from urllib.parse import quote

from airflow_gemini_batch.batch_job import JobName, is_table_uri
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.gcs_uri import split_uri
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.service import CONSOLE, JOB_PAGE


def job_page(name: JobName) -> str:
    """The page of a batch job."""
    return JOB_PAGE.format(
        location=quote(name.location), job_id=quote(name.job_id), project=quote(name.project)
    )


def table_page(table: TableName) -> str:
    """The page of a table in BigQuery."""
    project, dataset, name = (quote(part, safe="") for part in (table.project, table.dataset, table.table))
    return f"{CONSOLE}bigquery?project={project}&p={project}&d={dataset}&t={name}&page=table"


def place_page(uri: str | None, project: str) -> str:
    """The page of a folder, an object, a dataset or a table; empty if the URI is none of them.

    :param uri: ``gs://bucket/folder/``, ``gs://bucket/object.html``, ``bq://project.dataset.table`` or
        ``bq://project.dataset``
    :param project: pays for looking at the bucket
    """
    if not uri:
        return ""
    if uri.startswith("gs://"):
        bucket, name = split_uri(uri)
        # Only an object has a name with an ending; the service puts output into folders.
        kind = "_details/" if "." in name.rpartition("/")[2] and not _is_output(name) else ""
        slash = "" if kind or not name or name.endswith("/") else "/"
        return f"{CONSOLE}storage/browser/{kind}{quote(bucket)}/{quote(name)}{slash}?project={quote(project)}"
    if is_table_uri(uri):
        try:
            return table_page(TableName.parse(uri))
        except InvalidParameterError:
            return ""
    owner, _, dataset = uri.removeprefix("bq://").rpartition(".")
    if not (uri.startswith("bq://") and owner and dataset):
        return ""
    owner, dataset = quote(owner, safe=""), quote(dataset, safe="")
    return f"{CONSOLE}bigquery?project={owner}&p={owner}&d={dataset}&page=dataset"


def _is_output(name: str) -> bool:
    # `prediction-model-2026-11-28T10:00:00.123456Z` has a dot, and is a folder.
    return name.rpartition("/")[2].startswith("prediction-")
