"""What was counted in the rows of a query, and whether a job would take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.checking.import_check import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_gemini_batch.requests.in_bigquery.statements import TableBuild


def check_counts(counts: Mapping[str, Any], build: TableBuild, *, is_exported: bool) -> None:
    """Judge what ``inspect.sql`` has counted.

    :raises InvalidParameterError: how many rows no job takes, and what to do about it
    """
    if counts["empty_keys"]:
        raise _rows_error(counts["empty_keys"], "have no key, or an empty one")
    if counts["repeated_keys"]:
        raise InvalidParameterError(
            "sql",
            f"{counts['repeated_keys']:,} rows",
            f"their key is that of another row, such as {counts['repeated_key']!r}: answers could not be "
            "told apart; make keys unique",
        )
    if is_exported and counts["keys_without_letter"]:
        raise _rows_error(
            counts["keys_without_letter"],
            "have a key that does not begin with a letter; in a file, one that looks like a number comes "
            "back changed. Write CONCAT('row-', key) AS key",
        )
    column = build.columns.source.name
    if counts["empty_requests"]:
        raise _rows_error(counts["empty_requests"], f"have no {column}: NULL, empty or without contents")
    if counts["odd_media"]:
        raise _rows_error(
            counts["odd_media"],
            "have a media_uri that is no gs:// address, or whose ending tells no mime type; give "
            "media_mime_type",
        )
    if counts["snake_case"]:
        raise _rows_error(
            counts["snake_case"],
            "spell a member like generation_config; write generationConfig, to merge defaults with",
        )
    if not is_exported and counts["all_rows"] > MAX_ROWS:
        raise _rows_error(
            counts["all_rows"],
            f"are more than {MAX_ROWS:,}, which a job takes; export_uri makes several jobs",
        )


def _rows_error(rows: int, fix: str) -> InvalidParameterError:
    return InvalidParameterError("sql", f"{rows:,} rows", fix)
