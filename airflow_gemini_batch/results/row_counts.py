"""How many rows of some jobs are in the results table and in the error table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.sql_template import render

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from google.cloud import bigquery as bq

    from airflow_gemini_batch.gcp.table_name import TableName


@dataclass(frozen=True)
class Tables:
    """A results table and its error table, which other results tables may share."""

    results: TableName
    errors: TableName


def count_script(table: TableName) -> str:
    """Return the query that counts the rows of ``@job_names`` in a results table."""
    return render("results/count", table=table)


def landed_script(tables: Tables) -> str:
    """Return the query that counts the rows of ``@job_name`` landed at ``@landed_at``."""
    return render("results/landed", results=tables.results, errors=tables.errors)


def replaced_script(tables: Tables) -> str:
    """Return the query that counts failures of ``@replaces`` that ``@job_name`` should have replaced."""
    return render("results/replaced", results=tables.results, errors=tables.errors)


def count_rows(bigquery: bq.Client, table: TableName, job_names: tuple[str, ...]) -> int:
    """Count the rows of some jobs in a results table."""
    ((found,),) = _query(bigquery, count_script(table), job_names=job_names)
    return int(found)


def is_complete(bigquery: bq.Client, tables: Tables, job_name: str, counts: Mapping[str, Any]) -> bool:
    """Whether all rows of a landing are still in the tables.

    :param counts: the row of counts that the landing script returned
    """
    (found,) = _query(bigquery, landed_script(tables), job_name=job_name, landed_at=counts["landed_at"])
    return all(counts[name] == found[name] for name in ("result_rows", "error_rows"))


def count_not_replaced(bigquery: bq.Client, tables: Tables, job_name: str, replaces: tuple[str, ...]) -> int:
    """Count failures of earlier jobs that are still there although this job has landed their requests.

    :param replaces: the names of the earlier jobs
    """
    ((found,),) = _query(bigquery, replaced_script(tables), job_name=job_name, replaces=replaces)
    return int(found)


def _query(bigquery: bq.Client, statement: str, **values: str | datetime | tuple[str, ...]) -> Any:
    from google.cloud import bigquery as bq

    parameters = [
        bq.ArrayQueryParameter(name, "STRING", value)
        if isinstance(value, tuple)
        else bq.ScalarQueryParameter(name, "STRING" if isinstance(value, str) else "TIMESTAMP", value)
        for name, value in values.items()
    ]
    return bigquery.query(statement, job_config=bq.QueryJobConfig(query_parameters=parameters)).result()
