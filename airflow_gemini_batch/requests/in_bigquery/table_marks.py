"""Marks on the tables that this package makes, so that it replaces only its own.

A mark is two labels and a description, written by the statement that creates the table.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import TableMismatchError
from airflow_gemini_batch.gcp.table_name import get_table

if TYPE_CHECKING:
    from google.cloud import bigquery as bq

    from airflow_gemini_batch.gcp.table_name import TableName

MADE_BY_LABEL = "airflow_gemini_batch_made_by"
BUILD_LABEL = "airflow_gemini_batch_build"


@dataclass(frozen=True)
class TableMark:
    """What is written on a table.

    :param made_by: identifies who may replace the table; at most 63 lowercase letters, digits, ``-``
    :param build: identifies the content: tables with the same value have the same rows
    :param description: says the same to users
    """

    made_by: str
    build: str
    description: str

    @classmethod
    def requests_of(cls, dag_id: str, task_id: str, installation: str, build: str) -> TableMark:
        """Mark the requests that a task of an Airflow installation builds; all its runs may replace them."""
        task = hashlib.sha256(f"{installation}\0{dag_id}\0{task_id}".encode()).hexdigest()[:24]
        what = f"Requests for Gemini batch jobs, built by task {task_id} of DAG {dag_id}"
        return cls(f"requests-{task}", build, what)

    @classmethod
    def staging(cls, build: str) -> TableMark:
        """Mark the rows of a user's query."""
        return cls(f"staging-{build}", build, "Rows that become requests for Gemini batch jobs")

    @classmethod
    def retry(cls, build: str) -> TableMark:
        """Mark the input of a job that resubmits failed requests."""
        return cls(f"retry-{build}", build, "Failed requests that a Gemini batch job resubmits")

    @property
    def options(self) -> str:
        """The labels and the description as options of ``CREATE TABLE``."""
        labels = f"('{MADE_BY_LABEL}', '{self.made_by}'), ('{BUILD_LABEL}', '{self.build}')"
        return f"labels = [{labels}], description = '{escaped(self.description)}'"

    def is_on(self, table: bq.Table) -> bool:
        """Whether the content of a table is this one."""
        labels = table.labels or {}
        return labels.get(MADE_BY_LABEL) == self.made_by and labels.get(BUILD_LABEL) == self.build

    def check_replaceable(self, name: TableName, bigquery: bq.Client) -> None:
        """Check that a table does not exist, or has this mark, whatever its build.

        :raises TableMismatchError: it is something else
        """
        table = get_table(bigquery, name)
        if table is None:
            return
        made_by = (table.labels or {}).get(MADE_BY_LABEL)
        if made_by == self.made_by or (made_by is None and _is_of_older_release(table)):
            return
        if made_by:
            problem = (
                "another task, or the same one in another Airflow, made it, and it is not replaced. "
                f"It describes itself as: {table.description}"
            )
        else:
            problem = "it is not a table of requests that this task made, so it is not replaced"
        raise TableMismatchError(str(name), [f"{problem}. Choose another name, or delete the table"])


def escaped(text: str) -> str:
    """Return text as it stands between single quotes in SQL."""
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")


def _is_of_older_release(table: bq.Table) -> bool:
    """Whether an unmarked table is one of rows that older releases made, by its name and its end."""
    return (
        table.table_type == "TABLE"
        and bool(table.expires)
        and table.table_id.startswith("gemini_batch_staging_")
        and not (table.description or table.labels)
    )
