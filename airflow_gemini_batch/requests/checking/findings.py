"""Findings of a check of batch input: what is wrong, where, and what it means for the job."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class Level(StrEnum):
    """How severe a finding is, most severe first."""

    JOB = "job"
    """The import rejects the input: the job fails after waiting in the queue, and no row runs."""
    ROW = "row"
    """The model rejects the row; the other rows run."""
    RESULT = "result"
    """The row runs and is charged, but its result is not the intended one."""
    ADVICE = "advice"
    """The input works but could be safer."""
    REPAIRED = "repaired"
    """The problem was fixed in the repaired copy."""


@dataclass(frozen=True)
class Rule:
    """One kind of problem.

    :param name: stable, so that scripts can rely on it
    :param fix: how to fix it
    """

    name: str
    level: Level
    fix: str


@dataclass(frozen=True)
class Finding:
    """One problem in one line. Never contains text of a prompt.

    :param line: line number, from 1; 0 for the input as a whole
    :param key: key of the row; None if it has none or cannot be parsed
    :param path: JSON path, such as ``$.request.tools[0].googleSearch``
    :param rule: name of the rule
    :param message: the error message, as the service words it where that is known
    :param fix: how to fix it
    :param file: URI of the file if the input has several; otherwise empty
    """

    line: int
    key: str | None
    path: str
    rule: str
    level: Level
    message: str
    fix: str
    file: str = ""


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one rule at one path.

    :param path: JSON path without array indexes: ``$.request.tools[].googleSearch``
    :param count: total number of findings
    :param first: the findings of the first lines
    """

    rule: str
    level: Level
    path: str
    count: int
    first: tuple[Finding, ...]

    @property
    def message(self) -> str:
        """The message of the first finding."""
        return self.first[0].message

    @property
    def fix(self) -> str:
        """How to fix the first finding."""
        return self.first[0].fix


@dataclass(frozen=True)
class Report:
    """The result of a check.

    :param rows: number of lines that are not empty
    :param size: in bytes
    :param groups: the findings, most severe first
    :param unlisted: number of findings beyond the limit on groups; they are counted but not kept
    :param failing_rows: number of rows that the model would reject
    """

    rows: int
    size: int
    groups: tuple[FindingGroup, ...]
    unlisted: int = 0
    failing_rows: int = 0

    def of_level(self, *levels: Level) -> tuple[FindingGroup, ...]:
        """Return the groups of the given levels."""
        return tuple(group for group in self.groups if group.level in levels)

    @property
    def job_fails(self) -> bool:
        """Whether the import would reject the input."""
        return bool(self.of_level(Level.JOB))

    def is_fine(self, *, strict: bool = False) -> bool:
        """Whether there are no findings other than advice; with ``strict``, no findings at all."""
        return not self.groups if strict else len(self.of_level(Level.ADVICE)) == len(self.groups)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-serializable dict."""
        groups = [
            {
                "rule": group.rule,
                "level": group.level.value,
                "path": group.path,
                "count": group.count,
                "message": group.message,
                "fix": group.fix,
                "first": [{**asdict(finding), "level": finding.level.value} for finding in group.first],
            }
            for group in self.groups
        ]
        return {"rows": self.rows, "bytes": self.size, "findings": groups, "unlisted": self.unlisted}


class Place(NamedTuple):
    """A line of the input.

    :param key: key of the row, if it has one
    :param file: URI of the file if the input has several; otherwise empty
    """

    line: int
    key: str | None = None
    file: str = ""


class Findings:
    """Collects findings into groups in bounded memory."""

    KEPT_LINES = 5
    KEPT_GROUPS = 500

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], list[Finding]] = {}
        self._unlisted = 0

    def add(
        self, rule: Rule, path: str, message: str, places: list[Place], count: int = 1, fix: str = ""
    ) -> None:
        """Add a problem of ``count`` lines, the first of which are ``places``."""
        kind = (rule.name, _without_indexes(path))
        if kind not in self._counts and len(self._counts) >= self.KEPT_GROUPS:
            self._unlisted += count
            return
        self._counts[kind] = self._counts.get(kind, 0) + count
        found = self._first.setdefault(kind, [])
        if len(found) == self.KEPT_LINES and _order(places[0]) > _order(found[-1]):
            return
        found.extend(
            Finding(place.line, place.key, path, rule.name, rule.level, message, fix or rule.fix, place.file)
            for place in places
        )
        found.sort(key=_order)
        del found[self.KEPT_LINES :]

    def report(self, rows: int, size: int, failing_rows: int = 0) -> Report:
        """Return the report on an input with this many rows and bytes."""
        groups = [
            FindingGroup(kind[0], first[0].level, kind[1], self._counts[kind], tuple(first))
            for kind, first in self._first.items()
        ]
        worst = list(Level)
        groups.sort(key=lambda group: (worst.index(group.level), group.first[0].line, group.path))
        return Report(rows, size, tuple(groups), self._unlisted, failing_rows)


def _order(place: Place | Finding) -> tuple[str, int]:
    return place.file, place.line


def _without_indexes(path: str) -> str:
    """``$.request.tools[0].googleSearch`` → ``$.request.tools[].googleSearch``."""
    steps = path.split("[")
    return steps[0] + "".join(
        f"[]{end}" if index.isdigit() else f"[{index}]{end}"
        for index, _, end in (step.partition("]") for step in steps[1:])
    )
