"""The tables that a query reads. The text of a query may have prompts in it, so no event has it."""

from __future__ import annotations

import logging

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.lineage.datasets import Dataset, of_table

log = logging.getLogger(__name__)


def tables_of(sql: str, project: str | None) -> tuple[Dataset, ...]:
    """Name the tables that a query of BigQuery reads; empty if it cannot be parsed.

    :param project: of tables that are named without one
    """
    try:
        # The OpenLineage provider installs it.
        from openlineage_sql import parse  # type: ignore[import-untyped]

        found = parse([sql], dialect="bigquery")
    except Exception as error:
        log.debug("The tables of the query are not known: %s", type(error).__name__)
        return ()
    names = [_full_name(each.qualified_name, project) for each in found.in_tables] if found else []
    return tuple(of_table(name) for name in sorted(map(str, filter(None, names))))


def _full_name(name: str, project: str | None) -> TableName | None:
    try:
        return TableName.parse(name, project)
    except InvalidParameterError:
        return None
