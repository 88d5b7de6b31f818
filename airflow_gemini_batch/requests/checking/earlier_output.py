"""Input that is the output of an earlier job, which the service is said to finish: what tells it.

Google's pages say that such a job asks only what has no good answer and copies the rest. Nobody has published
a run, so of such input nothing is refused for what the service has added to it.
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


def asked_part(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of such a line was its input."""
    return {name: value for name, value in row.items() if name not in _ADDED}
