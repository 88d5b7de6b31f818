"""Applies the rules of the import to the requests that this package builds."""

from __future__ import annotations

import logging

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.building.upload import Inspector
from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.import_check import Check

log = logging.getLogger(__name__)


class BuiltCheck(Inspector):
    """Rejects an object that would fail its job, and logs a warning for rows that would fail.

    :param model: of the job, if it is known
    """

    def __init__(self, model: str | None = None) -> None:
        self._check = Check(model=model)

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
                f"{group.count:,} rows, first {group.first[0].key!r}",
                f"the whole job would fail: {group.message} (at {group.path}). {group.fix}",
            )
        for group in report.of_level(Level.ROW):
            log.warning(
                "The model will reject %s requests, first %r: %s (at %s). %s",
                f"{group.count:,}",
                group.first[0].key,
                group.message,
                group.path,
                group.fix,
            )
