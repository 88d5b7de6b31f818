"""What a check of batch input found, and what it means for the job."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """What a finding costs."""

    JOB = "job"
    """The import refuses the input: the job fails after its time in the queue, with every row."""
    ROW = "row"
    """The model refuses the row; the others run."""
    RESULT = "result"
    """All runs and is paid for, and what comes back is not what was meant."""
    ADVICE = "advice"
    """Works, and could be safer."""
    REPAIRED = "repaired"
    """Was wrong, and is right in the copy."""


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong.

    :param name: stable, for scripts
    :param fix: what to do about it
    """

    name: str
    level: Level
    fix: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong in one line. Never holds text of a prompt.

    :param line: number of the line, from 1; 0 for the input as a whole
    :param key: key of the row, None where it has none or cannot be read
    :param path: JSON path, such as ``$.request.tools[0].googleSearch``
    :param rule: name of the rule
    :param message: what the service says, in its own words where they are known
    :param fix: what to do about it
    :param file: URI of the file, where the input is several
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
    """Findings of one kind.

    :param path: JSON path without the places in arrays: ``$.request.tools[].googleSearch``
    :param count: how many there are in all
    :param first: those of the first lines
    """

    rule: str
    level: Level
    path: str
    count: int
    first: tuple[Finding, ...]

    @property
    def message(self) -> str:
        """What the service says of the first."""
        return self.first[0].message

    @property
    def fix(self) -> str:
        """What to do about it."""
        return self.first[0].fix


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    :param rows: lines that are not empty
    :param size: bytes
    :param groups: what was found, worst first
    :param unlisted: findings of further kinds, counted and not kept
    """

    rows: int
    size: int
    groups: tuple[FindingGroup, ...]
    unlisted: int = 0

    def of_level(self, *levels: Level) -> tuple[FindingGroup, ...]:
        """The groups of some levels."""
        return tuple(group for group in self.groups if group.level in levels)

    @property
    def job_fails(self) -> bool:
        """Whether the import would refuse the input."""
        return bool(self.of_level(Level.JOB))

    def is_fine(self, *, strict: bool = False) -> bool:
        """Whether nothing was found but advice; with ``strict`` nothing at all."""
        return not self.groups if strict else len(self.of_level(Level.ADVICE)) == len(self.groups)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
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


@dataclass(frozen=True)
class Place:
    """A line of the input.

    :param key: key of its row, if it has one
    :param file: URI of the file, where the input is several
    """

    line: int
    key: str | None = None
    file: str = ""


class Findings:
    """Collects findings into groups, in bounded memory."""

    KEPT_LINES = 5
    KEPT_GROUPS = 500

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], list[Finding]] = {}
        self._unlisted = 0

    def add(
        self, rule: Rule, path: str, message: str, places: list[Place], count: int = 1, fix: str = ""
    ) -> None:
        """Add what is wrong in ``count`` lines, the first of which are ``places``."""
        kind = (rule.name, _without_places(path))
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

    def report(self, rows: int, size: int) -> Report:
        """What was found in an input of so many rows and bytes."""
        groups = [
            FindingGroup(kind[0], first[0].level, kind[1], self._counts[kind], tuple(first))
            for kind, first in self._first.items()
        ]
        worst = list(Level)
        groups.sort(key=lambda group: (worst.index(group.level), group.first[0].line, group.path))
        return Report(rows, size, tuple(groups), self._unlisted)


def _order(place: Place | Finding) -> tuple[str, int]:
    return place.file, place.line


def _without_places(path: str) -> str:
    """``$.request.tools[0].googleSearch`` → ``$.request.tools[].googleSearch``."""
    steps = path.split("[")
    return steps[0] + "".join(
        f"[]{end}" if place.isdigit() else f"[{place}]{end}"
        for place, _, end in (step.partition("]") for step in steps[1:])
    )
