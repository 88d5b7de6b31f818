"""How many rows of some jobs are in the results table and in the error table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_gemini_batch.gcp.sql_template import render

if TYPE_CHECKING:
    from google.cloud import bigquery as bq

    from airflow_gemini_batch.gcp.table_name import TableName


def count_script(table: TableName) -> str:
    """Return the query that counts the rows of ``@job_names`` in a table."""
    return render("results/count", table=table)


def replaced_script(results: TableName, errors: TableName) -> str:
    """Return the query that counts failures of ``@replaces`` that ``@job_names`` should have replaced."""
    return render("results/replaced", results=results, errors=errors)


def count_rows(bigquery: bq.Client, table: TableName, job_names: tuple[str, ...]) -> int:
    """Count the rows of some jobs in a table."""
    return _count(bigquery, count_script(table), job_names=job_names)


def count_not_replaced(
    bigquery: bq.Client, results: TableName, errors: TableName, *, job_name: str, replaces: tuple[str, ...]
) -> int:
    """Count failures of earlier jobs that are still there although this job has landed rows of their keys.

    :param replaces: the names of the earlier jobs
    """
    return _count(bigquery, replaced_script(results, errors), job_names=(job_name,), replaces=replaces)


def _count(bigquery: bq.Client, statement: str, **names: tuple[str, ...]) -> int:
    from google.cloud import bigquery as bq

    parameters = [bq.ArrayQueryParameter(name, "STRING", values) for name, values in names.items()]
    config = bq.QueryJobConfig(query_parameters=parameters)
    ((found,),) = bigquery.query(statement, job_config=config).result()
    return int(found)
