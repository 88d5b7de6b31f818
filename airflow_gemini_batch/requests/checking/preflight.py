"""The check of the input in Cloud Storage, by the task that is about to submit it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.import_check import Check
from airflow_gemini_batch.requests.stored_lines import StoredLines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.storage import Client

    from airflow_gemini_batch.requests.checking.findings import FindingGroup, Report

log = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024
"""Larger input is checked only when asked for: it takes a second for every 60 MB, and the download."""
_SHOWN = 5


def preflight(uris: Sequence[str], storage: Client, *, asked_for: bool = False) -> None:
    """Read the input and refuse what would fail the job; warn of what would fail single rows.

    :param uris: ``gs://…``, ``*`` allowed
    :param asked_for: check input of any size
    :raises InvalidParameterError: the import would refuse the input, and says in which line and why
    """
    from google.api_core.exceptions import Forbidden

    stored = StoredLines.find(uris, storage)
    if stored.size > MAX_BYTES and not asked_for:
        log.info(
            "The input is not checked before submitting: %s bytes are more than %s. Set preflight=True to "
            "check it all the same.",
            f"{stored.size:,}",
            f"{MAX_BYTES:,}",
        )
        return
    checker = Check()
    try:
        checker.add_all(stored.read(checker.start_file))
    except Forbidden:
        log.info("The input is not checked before submitting: no permission to read it")
        return
    _judge(checker.report(), uris)


def _judge(report: Report, uris: Sequence[str]) -> None:
    if report.job_fails:
        found = report.of_level(Level.JOB)
        more = f" There are {len(found) - 1} more findings." if len(found) > 1 else ""
        raise InvalidParameterError(
            "input_uri",
            list(uris),
            f"the job would fail and no row would run. {_told(found[0])}. {found[0].fix}{more} "
            "`gemini-batch validate` shows all; preflight=False submits without a check.",
        )
    found = report.of_level(Level.ROW, Level.RESULT)
    if found:
        more = f"; and {len(found) - _SHOWN} more kinds" if len(found) > _SHOWN else ""
        log.warning(
            "Of the %s rows of the input some would fail or not give what was meant: %s%s. "
            "`gemini-batch validate` shows all.",
            f"{report.rows:,}",
            "; ".join(map(_told, found[:_SHOWN])),
            more,
        )


def _told(group: FindingGroup) -> str:
    first = group.first[0]
    where = f"first in line {first.line:,}" if first.line else ""
    key = f" (key {first.key!r})" if first.key is not None else ""
    file = f" of {first.file}" if first.file else ""
    place = f", {where}{key}{file}" if where else file
    return f"{group.rule} {group.count:,} × at {group.path}{place}: {group.message.rstrip('.')}"
