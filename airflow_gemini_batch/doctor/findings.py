"""What the doctor found: one finding for each check, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_gemini_batch.formats import counted

CREDENTIALS, LISTS_JOBS = "credentials", "jobs.list"
"""Checks that are unknown only if Google cannot be reached."""


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    MISSING = "missing"
    """A job or its landing will fail, or a feature will not work."""
    UNKNOWN = "unknown"
    """The credentials are not allowed to look, so nothing is claimed."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    :param check: a stable name for scripts, such as ``api.aiplatform``
    :param title: what was checked, for people
    :param detail: one sentence
    :param command: the one command that fixes it; ``None`` if there is nothing to fix, or no command can
    """

    check: str
    title: str
    status: Status
    detail: str
    command: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "check": self.check,
            "title": self.title,
            "status": self.status.value,
            "detail": self.detail,
            "command": self.command,
        }


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order in which a job needs what they are about."""

    findings: tuple[Finding, ...]

    def count(self, status: Status) -> int:
        """Return how many checks ended like this."""
        return sum(finding.status is status for finding in self.findings)

    def exit_code(self, *, strict: bool) -> int:
        """Return 1 if something is missing, or Google was not reached; otherwise 0.

        :param strict: return 1 also if anything is unknown
        """
        unknown = {finding.check for finding in self.findings if finding.status is Status.UNKNOWN}
        counts = unknown if strict else unknown & {CREDENTIALS, LISTS_JOBS}
        return int(bool(self.count(Status.MISSING) or counts))

    @property
    def summary(self) -> str:
        """One sentence."""
        ok, missing, unknown = (self.count(status) for status in Status)
        if not (missing or unknown):
            return f"All {counted(ok, 'check')} passed."
        parts = [f"{counted(ok, 'check')} passed"]
        if missing:
            parts.append(f"{missing:,} found something missing")
        if unknown:
            parts.append(f"{unknown:,} could not be decided")
        return ", ".join(parts) + "."

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types; docs/doctor.md describes them."""
        return {
            "summary": {status.value: self.count(status) for status in Status},
            "findings": [finding.to_dict() for finding in self.findings],
        }
