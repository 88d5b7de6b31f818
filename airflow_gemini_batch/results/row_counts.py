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
    from airflow_gemini_batch.jobs.identity import RunIdentity

_TYPES = {str: "STRING", int: "INT64"}


@dataclass(frozen=True)
class Tables:
    """A results table and its error table, which other results tables may share."""

    results: TableName
    errors: TableName


def count_script(table: TableName) -> str:
    """Return the query that counts the rows of ``@job_names`` in a results table."""
    return render("results/count", table=table)


def landed_script(tables: Tables, *, by_run: bool = False) -> str:
    """Return the query that counts the rows of ``@job_name`` landed at ``@landed_at``.

    :param by_run: only those that one task run has landed
    """
    return render("results/landed", results=tables.results, errors=tables.errors, by_run=by_run)


def replaced_script(tables: Tables) -> str:
    """Return the query that counts failures of ``@replaces`` that ``@job_name`` should have replaced."""
    return render("results/replaced", results=tables.results, errors=tables.errors)


def count_rows(bigquery: bq.Client, table: TableName, job_names: tuple[str, ...]) -> int:
    """Count the rows of some jobs in a results table."""
    ((found,),) = _query(bigquery, count_script(table), job_names=job_names)
    return int(found)


def is_complete(
    bigquery: bq.Client,
    tables: Tables,
    job_name: str,
    counts: Mapping[str, Any],
    run: RunIdentity | None = None,
) -> bool:
    """Whether all rows of a landing are still in the tables.

    :param counts: the row of counts that the landing script returned
    :param run: the task run that must have landed them; ``None`` for any
    """
    values: dict[str, Any] = {"job_name": job_name, "landed_at": counts["landed_at"]}
    if run:
        values |= {name: getattr(run, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
    (found,) = _query(bigquery, landed_script(tables, by_run=bool(run)), **values)
    return all(counts[name] == found[name] for name in ("result_rows", "error_rows"))


def count_not_replaced(bigquery: bq.Client, tables: Tables, job_name: str, replaces: tuple[str, ...]) -> int:
    """Count failures of earlier jobs that are still there although this job has landed their requests.

    :param replaces: the names of the earlier jobs
    """
    ((found,),) = _query(bigquery, replaced_script(tables), job_name=job_name, replaces=replaces)
    return int(found)


def _query(bigquery: bq.Client, statement: str, **values: str | int | datetime | tuple[str, ...]) -> Any:
    from google.cloud import bigquery as bq

    parameters = [
        bq.ArrayQueryParameter(name, "STRING", value)
        if isinstance(value, tuple)
        else bq.ScalarQueryParameter(name, _TYPES.get(type(value), "TIMESTAMP"), value)
        for name, value in values.items()
    ]
    return bigquery.query(statement, job_config=bq.QueryJobConfig(query_parameters=parameters)).result()
