"""Checks the input in Cloud Storage right before a task submits it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.import_check import Check
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD
from airflow_gemini_batch.requests.stored_lines import StoredLines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.storage import Client

    from airflow_gemini_batch.requests.checking.findings import FindingGroup, Report
    from airflow_gemini_batch.requests.key_field import KeyField

log = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024
"""Larger input is checked only on request: checking takes about a second per 60 MB, plus the download."""
_SHOWN = 5


def preflight(
    uris: Sequence[str],
    storage: Client,
    key_field: KeyField = DEFAULT_KEY_FIELD,
    *,
    asked_for: bool = False,
    model: str | None = None,
) -> None:
    """Read the input. Raise if the job would fail; log a warning if only some rows would fail.

    :param uris: ``gs://…``, which may have wildcards
    :param key_field: where a row has its key
    :param asked_for: also check input of more than ``MAX_BYTES``
    :param model: of the job
    :raises InvalidParameterError: the import would reject the input; the message has line, reason and fix
    """
    from google.api_core.exceptions import Forbidden

    stored = StoredLines.find(uris, storage)
    if stored.size > MAX_BYTES and not asked_for:
        log.info(
            "The input is not checked before submitting: it has %s bytes, more than %s. Set preflight=True "
            "to check it anyway.",
            f"{stored.size:,}",
            f"{MAX_BYTES:,}",
        )
        return
    checker = Check(key_field=key_field, model=model)
    try:
        checker.add_all(stored.read(checker.start_file))
    except Forbidden:
        log.info("The input is not checked before submitting: the task has no permission to read it.")
        return
    _raise_or_warn(checker.report(), uris)


def _raise_or_warn(report: Report, uris: Sequence[str]) -> None:
    if report.job_fails:
        found = report.of_level(Level.JOB)
        more = f" {len(found) - 1} more findings." if len(found) > 1 else ""
        raise InvalidParameterError(
            "input_uri",
            list(uris),
            f"the job would fail before any row runs. {_summary(found[0])}. {found[0].fix}{more} "
            "`gemini-batch validate` lists all findings; preflight=False submits without this check.",
        )
    if report.rows and report.failing_rows == report.rows:
        first = report.of_level(Level.ROW)[0]
        raise InvalidParameterError(
            "input_uri",
            list(uris),
            f"all {counted(report.rows, 'row')} would fail. {_summary(first)}. {first.fix} "
            "`gemini-batch validate` lists all findings; preflight=False submits without this check.",
        )
    found = report.of_level(Level.ROW, Level.RESULT)
    if found:
        more = f"; and {len(found) - _SHOWN} more findings" if len(found) > _SHOWN else ""
        log.warning(
            "Some of the %s rows of the input would fail or return unintended results: %s%s. "
            "`gemini-batch validate` lists all findings.",
            f"{report.rows:,}",
            "; ".join(map(_summary, found[:_SHOWN])),
            more,
        )


def _summary(group: FindingGroup) -> str:
    first = group.first[0]
    where = f"first in line {first.line:,}" if first.line else ""
    key = f" (key {first.key!r})" if first.key is not None else ""
    file = f" of {first.file}" if first.file else ""
    place = f", {where}{key}{file}" if where else file
    return f"{group.rule} {group.count:,} × at {group.path}{place}: {group.message.rstrip('.')}"
