"""Check an input table before it is submitted, with one query."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import OUTPUT_COLUMNS, UNSUPPORTED_TYPES
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.requests.checking.earlier_output import is_output_table
from airflow_gemini_batch.requests.in_bigquery.columns import TableColumn
from airflow_gemini_batch.requests.in_bigquery.rule_conditions import RowConditions
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD
from airflow_gemini_batch.requests.keys import SAME_KEY
from airflow_gemini_batch.service import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.cloud import bigquery as bq

    from airflow_gemini_batch.requests.key_field import KeyField

log = logging.getLogger(__name__)


def preflight_table(
    table: str,
    bigquery: bq.Client,
    key_field: KeyField = DEFAULT_KEY_FIELD,
    *,
    model: str | None = None,
) -> None:
    """Refuse a table that a batch job would refuse; warn about rows that would fail or share a key.

    The rules of the import do not apply: a JSON column accepts values that the import of a file refuses.

    :param table: ``project.dataset.table``
    :param key_field: where a row has its key
    :param model: of the job
    :raises InvalidParameterError: a column cannot be used, or the table is empty or too large
    """
    from google.api_core.exceptions import Forbidden

    try:
        found = bigquery.get_table(table)
        _check_columns(table, found.schema)
        types = {field.name: field.field_type for field in found.schema}
        conditions = RowConditions.of(model)
        query = statement(table, types, conditions, key_field)
        (row,) = bigquery.query(query, location=found.location).result()
    except Forbidden:
        log.info("Skipping the check of the input table: no permission to query it")
        return
    _check_counts(table, dict(row.items()), conditions)


def _check_columns(table: str, schema: Sequence[bq.SchemaField]) -> None:
    types = {field.name: field.field_type for field in schema}
    if types.get("request") not in ("JSON", "STRING"):
        raise _refused(table, "it needs a column `request` of type JSON or STRING")
    is_earlier_output = is_output_table(types)
    for field in schema:
        if field.name.lower() in OUTPUT_COLUMNS and not is_earlier_output:
            raise _refused(table, f"batch output adds a column `{field.name}`; rename this one")
        if field.mode == "REPEATED" or field.field_type in UNSUPPORTED_TYPES:
            kind = "ARRAY" if field.mode == "REPEATED" else field.field_type
            raise _refused(
                table,
                f"column `{field.name}` is {kind}, which batch jobs refuse; drop it or convert it to JSON",
            )


def statement(
    table: str,
    types: Mapping[str, str],
    conditions: RowConditions,
    key_field: KeyField = DEFAULT_KEY_FIELD,
) -> str:
    """Return the query that counts rows with problems.

    :param types: BigQuery types by column name
    """
    request = TableColumn("request", types["request"])
    key = key_field.column(types)
    column = TableColumn(key, types[key]) if key else None
    path = key_field.path_in_column
    # Results are joined by the whole request where there is no key.
    if column and path != "$" and column.type not in ("JSON", "STRING"):
        column = None
    return render(
        "requests/in_bigquery/preflight",
        table=table,
        request=request,
        key=column,
        path=path,
        conditions=conditions,
    )


def _check_counts(table: str, counts: Mapping[str, Any], conditions: RowConditions) -> None:
    rows = counts["all_rows"]
    if not rows:
        raise _refused(table, "it has no rows; skip the job when there are no requests")
    if rows > MAX_ROWS:
        raise _refused(
            table, f"it has {rows:,} rows and a job accepts {MAX_ROWS:,}; split it over several jobs"
        )
    if fix := conditions.wrong_types(counts):
        raise _refused(table, fix)
    problems = {
        "invalid_requests": "whose request is not a JSON object and would fail",
        "empty_keys": "without a key",
        "repeated_keys": f"with the key of another row: {SAME_KEY}",
    }
    found = [f"{counts[name]:,} {problem}" for name, problem in problems.items() if counts[name]]
    if failing := conditions.findings(counts):
        found.append(failing)
    if found:
        log.warning("The input has %s: %s. Table: %s", counted(rows, "row"), "; ".join(found), table)


def _refused(table: str, fix: str) -> InvalidParameterError:
    return InvalidParameterError(
        "input_uri", f"bq://{table}", f"{fix}. Set preflight=False to submit it anyway"
    )
