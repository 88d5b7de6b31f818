"""The importer's rules, applied to what we have built ourselves before a job could fail on it."""

from __future__ import annotations

import logging

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.building.upload import Inspector
from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.import_check import Check

log = logging.getLogger(__name__)


class BuiltCheck(Inspector):
    """Refuses an object that would fail its job, and warns of rows that would fail alone."""

    def __init__(self) -> None:
        self._check = Check()

    def add(self, line: bytes) -> None:
        """See the next line."""
        self._check.add(line)

    def finish(self) -> None:
        """Judge.

        :raises InvalidParameterError: the service's own words, and what to do
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
                "%s requests will be refused, first %r: %s (at %s). %s",
                f"{group.count:,}",
                group.first[0].key,
                group.message,
                group.path,
                group.fix,
            )
