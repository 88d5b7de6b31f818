"""Recognizes input that is the output of an earlier job.

Google's documentation says that such a job runs only the rows without a successful response and copies the
others. No published run confirms it, so the fields that the service added are never rejected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import OUTPUT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_ADDED = (*OUTPUT_COLUMNS, "processed_time")


def is_output(row: Mapping[str, Any]) -> bool:
    """Whether a line was written by the service; a row that failed may have no ``response``."""
    return "status" in row and ("response" in row or "processed_time" in row)


def is_output_table(columns: Collection[str]) -> bool:
    """Whether a table with these columns was written by the service."""
    return all(name in columns for name in OUTPUT_COLUMNS)


def input_part(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an output line that was its input."""
    return {name: value for name, value in row.items() if name not in _ADDED}
