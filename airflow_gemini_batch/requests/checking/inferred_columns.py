"""The columns that the import of a job's input infers: one type per JSON path, over the whole file.

The service loads the file the way BigQuery loads newline-delimited JSON with schema auto-detection: every
path becomes a column. Rules and messages come from jobs that failed, unless a comment says otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from airflow_gemini_batch.gcp.column_rules import COLUMN_NAME, MAX_RECORD_DEPTH
from airflow_gemini_batch.requests.checking.findings import Findings, Level, Place, Rule

MAX_PATHS = 10_000
"""The maximum number of columns in a BigQuery table. Further paths are not compared."""

# Flags of a path: whether the value is an array, and the types of the value or of its elements.
ARRAY, SINGLE, NULL = 1, 2, 4
STRING, NUMBER, BOOLEAN, STRUCT = 8, 16, 32, 64
_KINDS = {STRING: "text", NUMBER: "a number", BOOLEAN: "true or false", STRUCT: "an object"}
_SCALARS: dict[type, int] = {str: STRING, int: NUMBER, float: NUMBER, bool: BOOLEAN}
_NAME_MEMBER = re.compile(r"[A-Za-z_$][\w$]*")

EMPTY_OBJECT = Rule(
    "empty-object",
    Level.JOB,
    "Remove the empty object, or add a field to it. Write `googleSearch` with an empty `excludeDomains` "
    "(--repair does this) or with `timeRangeFilter: null`. `urlContext` and `codeExecution` have no fields: "
    "store the input in a BigQuery table instead, which is not imported.",
)
NOT_ALWAYS_ARRAY = Rule("not-always-array", Level.JOB, "Write an array in every line, or in no line.")
NULL_IN_ARRAY = Rule(
    "null-in-array",
    Level.JOB,
    "Remove the null. In the enum of a schema, write `nullable: true` instead.",
)
NULL_FOR_ARRAY = Rule("null-for-array", Level.JOB, "Omit the field in lines that have no value for it.")
MIXED_KINDS = Rule("mixed-kinds", Level.JOB, "Write a value of the same type in every line.")
TOO_DEEP = Rule(
    "too-deep",
    Level.JOB,
    "Flatten the object, or write its inner part as a string of JSON. If a response schema is this deep, "
    "store the input in a BigQuery table, which is not imported.",
)
TOO_DEEP_MESSAGE = (
    f"Schema nested too deeply, at least {MAX_RECORD_DEPTH + 1} compared to the maximum allowed level of "
    f"{MAX_RECORD_DEPTH}"
)
BAD_NAME = Rule(
    "bad-name",
    Level.JOB,
    "Rename the field. It becomes a column: letters, digits and _ only, not starting with a digit, at most "
    "300 characters. Write schemas without `$ref` and `$defs` (--repair does this).",
)
NESTED_ARRAY = Rule("nested-array", Level.JOB, "Wrap the inner array in an object.")
TOO_MANY_PATHS = Rule(
    "too-many-paths",
    Level.ADVICE,
    "Use fewer field names, for example an array of names and values instead of a map.",
)


class Problem(NamedTuple):
    """A problem at a path of a row, without the line."""

    rule: Rule
    path: str
    message: str


class Structure:
    """The types at all paths of one row, and what the import rejects in this row whatever the other rows are.

    :ivar kinds: path as the import names it, such as ``request.contents.parts`` → flags
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.kinds: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._members(row, "", "$", 1)

    def _members(self, value: dict[str, Any], column: str, path: str, level: int) -> None:
        for name, item in value.items():
            inner = f"{column}.{name}" if column else name
            at = child(path, name)
            if not COLUMN_NAME.fullmatch(name):
                self._refuse(
                    BAD_NAME,
                    at,
                    f'Invalid field name "{name}". Fields must contain only letters, numbers, and '
                    "underscores, start with a letter or underscore, and be at most 300 characters long.",
                )
            if isinstance(item, list):
                self._array(item, inner, at, level)
            else:
                self._note(inner, (NULL if item is None else SINGLE) | self._value(item, inner, at, level))

    def _array(self, items: list[Any], column: str, path: str, level: int) -> None:
        flags = ARRAY
        for index, item in enumerate(items):
            at = f"{path}[{index}]"
            if item is None:
                name = column.rpartition(".")[2]
                self._refuse(
                    NULL_IN_ARRAY, at, f"Only optional fields can be set to NULL. Field: {name}; Value: NULL"
                )
            elif isinstance(item, list):
                # From BigQuery's documentation: it has no arrays of arrays.
                self._refuse(NESTED_ARRAY, at, "Nested arrays not allowed.")
            else:
                flags |= self._value(item, column, at, level)
        self._note(column, flags)

    def _value(self, value: Any, column: str, path: str, level: int) -> int:
        """Return the type flag of a value that is not an array, after descending into an object."""
        if not isinstance(value, dict):
            return _SCALARS.get(type(value), 0)
        if not value:
            self._refuse(EMPTY_OBJECT, path, f"Cannot store struct '{column}' with no fields")
        elif level > MAX_RECORD_DEPTH:
            self._refuse(TOO_DEEP, path, TOO_DEEP_MESSAGE)
        else:
            self._members(value, column, path, level + 1)
        return STRUCT

    def _note(self, column: str, flags: int) -> None:
        self.kinds[column] = self.kinds.get(column, 0) | flags

    def _refuse(self, rule: Rule, path: str, message: str) -> None:
        self.problems.append(Problem(rule, path, message))


@dataclass
class _Tally:
    lines: int
    first: list[Place]


class PathKinds:
    """The types at every path of the file, with the number of lines that have each and the first of them."""

    def __init__(self) -> None:
        self._paths: dict[str, dict[int, _Tally]] = {}
        self._untracked: list[Place] = []

    def add(self, kinds: dict[str, int], lines: int, first: list[Place]) -> None:
        """Add lines of one structure."""
        for column, flags in kinds.items():
            tallies = self._paths.get(column)
            if tallies is None:
                if len(self._paths) >= MAX_PATHS:
                    self._untracked = self._untracked or first[:1]
                    continue
                tallies = self._paths[column] = {}
            for flag in (ARRAY, SINGLE, NULL, STRING, NUMBER, BOOLEAN, STRUCT):
                if not flags & flag:
                    continue
                tally = tallies.setdefault(flag, _Tally(0, []))
                tally.lines += lines
                merged = sorted([*tally.first, *first], key=lambda place: (place.file, place.line))
                tally.first = merged[: Findings.KEPT_LINES]

    def report(self, findings: Findings) -> None:
        """Report the paths at which lines have different types."""
        for column, tallies in self._paths.items():
            path = f"$.{column}"
            name = column.rpartition(".")[2]
            if ARRAY in tallies and SINGLE in tallies:
                fewer, more = sorted((tallies[ARRAY], tallies[SINGLE]), key=lambda tally: tally.lines)
                counts = f"lines with an array: {tallies[ARRAY].lines:,}, without: {tallies[SINGLE].lines:,}"
                message = f"Repeated field must be imported as a JSON array. Field: {name}."
                fix = f"{NOT_ALWAYS_ARRAY.fix} Here {counts}{_example(more)}."
                findings.add(NOT_ALWAYS_ARRAY, path, message, fewer.first, fewer.lines, fix)
            if ARRAY in tallies and NULL in tallies:
                nulls = tallies[NULL]
                message = f"Only optional fields can be set to NULL. Field: {name}; Value: NULL"
                fix = f"{NULL_FOR_ARRAY.fix} Other lines have an array here{_example(tallies[ARRAY])}."
                findings.add(NULL_FOR_ARRAY, path, message, nulls.first, nulls.lines, fix)
            self._mixed(findings, column, tallies)
        if self._untracked:
            message = f"The input has more than {MAX_PATHS:,} different paths; the others were not compared."
            findings.add(TOO_MANY_PATHS, "$", message, self._untracked)

    def _mixed(self, findings: Findings, column: str, tallies: dict[int, _Tally]) -> None:
        # BigQuery's messages for load jobs; failed batch jobs only show "import error".
        scalars = [flag for flag in (STRING, NUMBER, BOOLEAN) if flag in tallies]
        if STRUCT in tallies and scalars:
            message = f"JSON object specified for non-record field: {column}"
            self._differing(findings, column, tallies, [STRUCT, *scalars], message)
        if len(scalars) > 1:
            message = f"Could not convert value. Field: {column.rpartition('.')[2]}"
            self._differing(findings, column, tallies, scalars, message)

    def _differing(
        self, findings: Findings, column: str, tallies: dict[int, _Tally], kinds: list[int], message: str
    ) -> None:
        """Report the lines whose value has another type than in most lines."""
        *fewer, usual = sorted(kinds, key=lambda flag: tallies[flag].lines)
        counts = ", ".join(f"lines with {_KINDS[flag]}: {tallies[flag].lines:,}" for flag in (usual, *fewer))
        fix = f"{MIXED_KINDS.fix} Here {counts}{_example(tallies[usual])}."
        for flag in fewer:
            findings.add(MIXED_KINDS, f"$.{column}", message, tallies[flag].first, tallies[flag].lines, fix)


def child(path: str, name: str) -> str:
    """Return the JSON path of a field."""
    return f"{path}.{name}" if _NAME_MEMBER.fullmatch(name) else f'{path}["{name}"]'


def _example(tally: _Tally) -> str:
    return f", such as line {tally.first[0].line:,}"
