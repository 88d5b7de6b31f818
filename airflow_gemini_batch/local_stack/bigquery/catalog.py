"""Make the BigQuery emulator look up one table directly instead of listing the tables of all databases.

It queries ``duckdb_tables()`` and similar functions several times per request. Runs in the emulator's own
environment and imports nothing from this package.
"""
# ruff: noqa: S608  # The SQL contains only names of projects and tables, which are quoted.

from __future__ import annotations

import contextlib
from typing import Any

# The function that the emulator calls → the same rows for one project, from the metadata of DuckLake.
_LAKE = {
    "duckdb_schemas()": """
        SELECT '{project}' AS database_name, schema_name
        FROM {lake}.ducklake_schema
        WHERE end_snapshot IS NULL
    """,
    "duckdb_tables()": """
        SELECT
          '{project}' AS database_name, schema_name, table_name, IFNULL(record_count, 0) AS estimated_size
        FROM {lake}.ducklake_table AS t
        JOIN {lake}.ducklake_schema AS s USING (schema_id)
        LEFT JOIN {lake}.ducklake_table_stats USING (table_id)
        WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL
    """,
    "duckdb_views()": """
        SELECT '{project}' AS database_name, schema_name, view_name, FALSE AS internal
        FROM {lake}.ducklake_view AS v
        JOIN {lake}.ducklake_schema AS s USING (schema_id)
        WHERE v.end_snapshot IS NULL AND s.end_snapshot IS NULL
    """,
    "duckdb_columns()": """
        SELECT
          '{project}' AS database_name, schema_name, table_name, column_name, nulls_allowed AS is_nullable
        FROM {lake}.ducklake_column AS c
        JOIN {lake}.ducklake_table AS t USING (table_id)
        JOIN {lake}.ducklake_schema AS s USING (schema_id)
        WHERE c.end_snapshot IS NULL AND t.end_snapshot IS NULL AND s.end_snapshot IS NULL
          AND c.parent_column IS NULL
    """,
}
# Query results are stored in their own database, which has no views.
_RESULTS = "emulator"


def adapt() -> None:
    """Replace the catalog lookups of the emulator in this process."""
    import duckdb
    from local_bigquery.engine import database

    fetch, objects = database.fetch, database.objects

    def fetch_from_the_lake(sql: str, params: list[Any] | None = None) -> list[Any]:
        project = str(params[0]) if params else ""
        if project == _RESULTS and "NOT is_nullable" in sql:
            return []  # A table that is made from a query has no required columns.
        if project in database._attached:
            lake = database.quote(f"__ducklake_metadata_{project}")
            for function, select in _LAKE.items():
                sql = sql.replace(function, f"({select.format(project=project, lake=lake)})")
        rows: list[Any] = fetch(sql, params)
        return rows

    def objects_by_name(project: str, dataset: str, table: str | None = None) -> list[Any]:
        if project != _RESULTS or table is None:
            found: list[Any] = objects(project, dataset, table)
            return found
        with contextlib.suppress(duckdb.CatalogException):
            [(rows,)] = fetch(f"SELECT count(*) FROM {database.quote(project, dataset, table)}")
            return [(table, "TABLE", rows)]
        return []

    database.fetch, database.objects = fetch_from_the_lake, objects_by_name
