"""The check of a table as input, by the task that is about to submit it: one query."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import OUTPUT_COLUMNS, UNSUPPORTED_TYPES
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.requests.checking.earlier_output import is_output_table
from airflow_gemini_batch.requests.checking.import_check import MAX_ROWS
from airflow_gemini_batch.requests.keys import KEY_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.cloud import bigquery as bq

log = logging.getLogger(__name__)


def preflight_table(table: str, bigquery: bq.Client) -> None:
    """Refuse a table that no job takes; warn of rows that would fail or could not be told apart.

    The import's rules do not hold for tables: a column of type JSON takes what a file may not have.

    :param table: ``project.dataset.table``
    :raises InvalidParameterError: names the column, or how many rows are too many
    """
    from google.api_core.exceptions import Forbidden

    try:
        found = bigquery.get_table(table)
        _check_columns(table, found.schema)
        types = {field.name: field.field_type for field in found.schema}
        (row,) = bigquery.query(statement(table, types), location=found.location).result()
    except Forbidden:
        log.info("The input is not checked before submitting: no permission to query it")
        return
    _judge(table, dict(row.items()), has_key=_key(types) == KEY_FIELD)


def _check_columns(table: str, schema: Sequence[bq.SchemaField]) -> None:
    types = {field.name: field.field_type for field in schema}
    if types.get("request") not in ("JSON", "STRING"):
        raise _refused(table, "it needs a column `request` of type JSON or STRING")
    is_earlier_output = is_output_table(types)
    for field in schema:
        if field.name.lower() in OUTPUT_COLUMNS and not is_earlier_output:
            raise _refused(table, f"the name of column `{field.name}` is the output's; rename it")
        if field.mode == "REPEATED" or field.field_type in UNSUPPORTED_TYPES:
            kind = "ARRAY" if field.mode == "REPEATED" else field.field_type
            raise _refused(
                table, f"column `{field.name}` is {kind}, which a job refuses; leave it out or make it JSON"
            )


def statement(table: str, types: Mapping[str, str]) -> str:
    """The query that counts.

    :param types: type by column name
    """
    request = (
        "request" if types["request"] == "JSON" else "SAFE.PARSE_JSON(request, wide_number_mode => 'round')"
    )
    return render("requests/in_bigquery/preflight", table=f"`{table}`", request=request, key=_key(types))


def _key(types: Mapping[str, str]) -> str:
    """The key, or nothing where there is none that can be counted: results are then joined by the request."""
    return KEY_FIELD if types.get(KEY_FIELD, "JSON") != "JSON" else "CAST(NULL AS STRING)"


def _judge(table: str, counts: Mapping[str, Any], *, has_key: bool) -> None:
    if not counts["all_rows"]:
        raise _refused(table, "it has no rows; submit nothing when there is nothing to ask")
    if counts["all_rows"] > MAX_ROWS:
        raise _refused(
            table, f"it has {counts['all_rows']:,} rows and a job takes {MAX_ROWS:,}; split it over several"
        )
    problems = {
        "have a request that is no JSON object and would fail": counts["odd_requests"],
        "have no key": counts["empty_keys"] if has_key else 0,
        "have the key of another row, so that their results cannot be told apart": counts["repeated_keys"],
    }
    found = [f"{rows:,} {problem}" for problem, rows in problems.items() if rows]
    if found:
        log.warning("Of the %s rows of %s: %s.", f"{counts['all_rows']:,}", table, "; ".join(found))


def _refused(table: str, fix: str) -> InvalidParameterError:
    return InvalidParameterError("input_uri", f"bq://{table}", f"{fix}. preflight=False submits all the same")
