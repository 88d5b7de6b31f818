"""Deciding from the counts of ``inspect.sql`` whether a batch job would accept the rows of a query."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import Described, InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.requests.keys import SAME_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_gemini_batch.requests.checking.import_check import Limits
    from airflow_gemini_batch.requests.in_bigquery.statements import TableBuild

log = logging.getLogger(__name__)


def check_counts(counts: Mapping[str, Any], build: TableBuild, limits: Limits, *, is_exported: bool) -> None:
    """Refuse rows that cannot become requests; warn of those that the model would refuse.

    :param counts: the row that ``inspect.sql`` returns
    :param limits: of a job
    :param is_exported: whether the requests are written to Cloud Storage as JSONL
    :raises InvalidParameterError: how many rows have a problem, and how to fix it
    """
    problems = {
        "empty_keys": ("whose key is NULL or empty", "give each row a key"),
        "repeated_keys": (
            f"with the key of another row, such as {counts['repeated_key']!r}",
            f"{SAME_KEY}; make keys unique",
        ),
        "empty_requests": (
            f"whose {build.columns.source.name} is NULL, empty or without content",
            "give them content, or leave them out",
        ),
        "invalid_media": (
            "whose media_uri is neither a gs:// URI nor the URL of a YouTube video, or has an extension "
            "without a known MIME type",
            "select media_mime_type",
        ),
        "snake_case": (
            f"with snake_case fields such as {snake_case(build.config)}",
            f"defaults cannot be merged into these; use camelCase, such as {build.config}",
        ),
    }
    if is_exported:
        problems["keys_without_letter"] = (
            "whose key does not begin with a letter",
            "in files, the service changes keys that look like numbers. Select CONCAT('row-', key) AS key",
        )
    elif counts["all_rows"] > limits.rows:
        problems["all_rows"] = (
            f"of which one job takes only {limits.rows:,}",
            "set export_uri to use several jobs",
        )
    for name, (problem, fix) in problems.items():
        if counts[name]:
            found = f"returns {counted(counts[name], 'row')} {problem}"
            raise InvalidParameterError("sql", Described(found), fix)
    if not build.conditions:
        return
    if wrong := build.conditions.wrong_types(counts):
        raise InvalidParameterError("sql", Described("returns rows that would fail the job"), wrong)
    if failing := build.conditions.findings(counts):
        log.warning("The query returns %s: %s.", counted(counts["all_rows"], "row"), failing)
