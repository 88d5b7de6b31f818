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
    """A results table and its error table, which other results tables may share.

    :param results_filter: see :class:`~airflow_gemini_batch.results.statements.Landing`
    """

    results: TableName
    errors: TableName
    results_filter: str = ""
    errors_filter: str = ""


def count_script(table: TableName) -> str:
    """Return the query that counts the rows of ``@job_names`` in a results table."""
    return render("results/count", table=table)


def landed_script(tables: Tables, *, by_run: bool = False) -> str:
    """Return the query that counts the rows of ``@job_names`` landed at ``@landed_at``.

    :param by_run: only those that one task run has landed
    """
    return render("results/landed", tables=tables, by_run=by_run)


def rivals_script(tables: Tables) -> str:
    """Return the script that keeps, of each of ``@job_names``, the rows landed last."""
    return render("results/rivals", tables=tables)


def replaced_script(tables: Tables) -> str:
    """Return the query that counts failures of ``@replaces`` that ``@job_names`` should have replaced."""
    return render("results/replaced", tables=tables)


def count_rows(bigquery: bq.Client, table: TableName, job_names: tuple[str, ...]) -> int:
    """Count the rows of some jobs in a results table."""
    ((found,),) = _query(bigquery, count_script(table), job_names=job_names)
    return int(found)


def is_complete(
    bigquery: bq.Client,
    tables: Tables,
    counts: Mapping[str, Mapping[str, Any]],
    run: RunIdentity | None = None,
) -> bool:
    """Whether all rows of a landing are still in the tables.

    :param counts: the rows of counts that the landing script returned, by job name
    :param run: the task run that must have landed them; ``None`` for any
    """
    landed_at = next(iter(counts.values()))["landed_at"]
    values: dict[str, Any] = {"job_names": tuple(counts), "landed_at": landed_at}
    if run:
        values |= {name: getattr(run, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
    (found,) = _query(bigquery, landed_script(tables, by_run=bool(run)), **values)
    return all(
        sum(each[name] for each in counts.values()) == found[name] for name in ("result_rows", "error_rows")
    )


def count_not_replaced(
    bigquery: bq.Client, tables: Tables, job_names: tuple[str, ...], replaces: tuple[str, ...]
) -> int:
    """Count failures of earlier jobs that are still there although these jobs have landed their requests.

    :param replaces: the names of the earlier jobs
    """
    ((found,),) = _query(bigquery, replaced_script(tables), job_names=job_names, replaces=replaces)
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
