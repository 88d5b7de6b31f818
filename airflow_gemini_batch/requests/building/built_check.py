"""Applies the rules of the import to the requests that this package builds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import Described, InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.requests.building.upload import Inspector
from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.import_check import Check

if TYPE_CHECKING:
    from airflow_gemini_batch.requests.key_field import KeyField

log = logging.getLogger(__name__)


class BuiltCheck(Inspector):
    """Rejects an object that would fail its job, and logs a warning for rows that would fail.

    :param key_field: where a line has its key
    :param model: of the job, if it is known
    """

    def __init__(self, key_field: KeyField, model: str | None = None) -> None:
        self._check = Check(key_field=key_field, model=model)

    def add(self, line: bytes) -> None:
        """Check the next line."""
        self._check.add(line)

    def finish(self) -> None:
        """Report the result.

        :raises InvalidParameterError: the job would fail; the message has the service's error and the fix
        """
        report = self._check.report()
        for group in report.of_level(Level.JOB):
            raise InvalidParameterError(
                "prompts",
                Described(f"({counted(group.count, 'row')}, first {group.first[0].key!r})"),
                f"the whole job would fail: {group.message} (at {group.path}). {group.fix}",
            )
        for group in report.of_level(Level.ROW):
            log.warning(
                "The model will reject %s, first %r: %s (at %s). %s",
                counted(group.count, "request"),
                group.first[0].key,
                group.message,
                group.path,
                group.fix,
            )
