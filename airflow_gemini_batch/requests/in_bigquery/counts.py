"""Deciding from the counts of ``inspect.sql`` whether a batch job would accept the rows of a query."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
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
        "empty_keys": "have no key, or an empty one; give each row a key",
        "repeated_keys": f"repeat the key of another row, such as {counts['repeated_key']!r}, and "
        f"{SAME_KEY}; make keys unique",
        "empty_requests": f"have a {build.columns.source.name} that is NULL, empty or without content",
        "invalid_media": "have a media_uri that is neither a gs:// URI nor the URL of a YouTube video, or "
        "whose extension has no known MIME type; select media_mime_type",
        "snake_case": f"use snake_case fields such as {snake_case(build.config)}, which defaults cannot be "
        f"merged into; use camelCase, such as {build.config}",
    }
    if is_exported:
        problems["keys_without_letter"] = (
            "have a key that does not begin with a letter; in files, the service changes keys that look like "
            "numbers. Select CONCAT('row-', key) AS key"
        )
    elif counts["all_rows"] > limits.rows:
        problems["all_rows"] = (
            f"are more than the {limits.rows:,} of one job; set export_uri to use several jobs"
        )
    for name, problem in problems.items():
        if counts[name]:
            raise InvalidParameterError("sql", f"{counts[name]:,} rows", problem)
    if not build.conditions:
        return
    if fix := build.conditions.wrong_types(counts):
        raise InvalidParameterError("sql", f"{counts['all_rows']:,} rows", fix)
    if failing := build.conditions.findings(counts):
        log.warning("Of the %s rows of the query: %s.", f"{counts['all_rows']:,}", failing)
