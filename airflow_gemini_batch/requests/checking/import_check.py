"""Finds in the input of a batch what the service would refuse, before it costs anything.

The input is streamed: memory depends on how many different shapes its lines have, not on how many lines.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_gemini_batch.requests.checking.earlier_output import asked_part, is_output
from airflow_gemini_batch.requests.checking.findings import Findings, Level, Place, Report, Rule
from airflow_gemini_batch.requests.checking.inferred_columns import TOO_DEEP, PathKinds, Problem, Structure
from airflow_gemini_batch.requests.checking.key_uniqueness import KeyTable
from airflow_gemini_batch.requests.checking.line_shapes import Shapes
from airflow_gemini_batch.requests.checking.request_rules import RowRules
from airflow_gemini_batch.requests.keys import KEY_FIELD, KEY_LABEL, SAME_KEY
from airflow_gemini_batch.requests.request_fields import request_fields

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

try:
    # Airflow brings it, and it reads JSON twice as fast; what it refuses, the standard library judges.
    from msgspec.json import decode as _decode_fast
except ModuleNotFoundError:
    _decode_fast = None  # type: ignore[assignment]

MAX_ROWS = 200_000
"""Requests of a job."""
MAX_BYTES = 10**9
"""Size of an input file in Cloud Storage."""

_BOM = b"\xef\xbb\xbf"
_LIKE_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_REMEMBERED_SHAPES = 2048

_ONE_LINE = "One line is one object: write each row with a JSON library, without line breaks inside it."
NOT_JSON = Rule("not-json", Level.JOB, _ONE_LINE)
NOT_UTF8 = Rule("not-utf8", Level.JOB, "Write the file in UTF-8.")
BOM = Rule("bom", Level.JOB, "Write the file in UTF-8 without a byte order mark (`utf-8`, not `utf-8-sig`).")
NOT_AN_OBJECT = Rule("not-an-object", Level.JOB, '{"key": "…", "request": {…}} is the form of a line.')
NO_REQUEST = Rule("no-request", Level.JOB, '{"key": "…", "request": {…}} is the form of a line.')
EMPTY = Rule("empty", Level.JOB, "Submit nothing when there is nothing to ask.")
TOO_MANY_ROWS = Rule(
    "too-many-rows", Level.JOB, "Split the input over several jobs, for example mapped tasks."
)
TOO_LARGE = Rule("too-large", Level.JOB, "Split the file, or give the input as a BigQuery table.")
DUPLICATE_KEY = Rule(
    "duplicate-key",
    Level.RESULT,
    f"Give each row its own key: {SAME_KEY}.",
)
NUMBER_LIKE_KEY = Rule(
    "number-like-key",
    Level.RESULT,
    'Let the key begin with a letter: "000123" comes back as 123.',
)
NO_KEY = Rule(
    "no-key",
    Level.ADVICE,
    f'Give each row a key, `"{KEY_FIELD}": "…"` beside `request` or the label `{KEY_LABEL}` in it: the '
    "output has another order, and results are joined by the request itself otherwise.",
)
EARLIER_OUTPUT = Rule(
    "earlier-output",
    Level.ADVICE,
    "The service is said to ask only the rows that failed and to copy the others; nobody has published that "
    "it does. Rows that are missing in this output are not asked.",
)


@dataclass(frozen=True)
class Limits:
    """How much one job takes.

    :param rows: requests
    :param size: bytes
    """

    rows: int = MAX_ROWS
    size: int = MAX_BYTES


@dataclass
class _Shape:
    """What all lines of one shape have in common."""

    kinds: dict[str, int]
    problems: list[Problem]
    lines: int = 0
    first: list[Place] = field(default_factory=list)


class _RefusedError(Exception):
    def __init__(self, rule: Rule, message: str) -> None:
        self.rule = rule
        self.message = message
        super().__init__(message)


def check(lines: Iterable[bytes], *, limits: Limits | None = None) -> Report:
    """Check the lines of one file.

    :param lines: split at newline bytes only, with or without them; a file open in binary mode will do
    :param limits: of the service, unless told otherwise
    """
    checker = Check(limits)
    checker.add_all(lines)
    return checker.report()


class Check:
    """A check under way, for those who read lines themselves."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._findings = Findings()
        self._path_kinds = PathKinds()
        self._shape_of = Shapes(request_fields().names_with_checked_values).of
        self._row_rules = RowRules()
        self._shapes: dict[Hashable, _Shape] = {}
        self._keys = KeyTable(self._limits.rows)
        self._file = ""
        self._before = 0
        self._file_size = 0
        self.lines = 0
        self.rows = 0
        self.size = 0

    def start_file(self, name: str) -> None:
        """Count lines and bytes from here on as those of another file of the same job."""
        self._check_size()
        self._file, self._file_size = name, 0
        self._before += self.lines
        self.lines = 0

    def add(self, line: bytes) -> None:
        """Check the next line."""
        self.lines += 1
        self.size += len(line)
        self._file_size += len(line)
        if not line.strip():
            return
        self.rows += 1
        try:
            row = _parse(line)
        except _RefusedError as error:
            self._findings.add(error.rule, "$", error.message, [Place(self.lines, None, self._file)])
            return
        key = _key(row)
        if is_output(row):
            place = Place(self.lines, key, self._file)
            self._findings.add(EARLIER_OUTPUT, "$", "The line is the output of an earlier job.", [place])
            row = asked_part(row)
        if key is not None:
            self._check_key(key, row)
        try:
            name = self._shape_of(row)
            shape = self._shapes.get(name)
            if shape is None:
                shape = self._learn(name, row)
        except RecursionError:
            self._findings.add(TOO_DEEP, "$", _TOO_DEEP, [Place(self.lines, key, self._file)])
            return
        shape.lines += 1
        if shape.lines <= Findings.KEPT_LINES:
            shape.first.append(Place(self.lines, key, self._file))

    def add_all(self, lines: Iterable[bytes]) -> None:
        """Check the next lines."""
        add = self.add
        for line in lines:
            add(line)

    def report(self) -> Report:
        """What was found in all lines so far; to be asked for once, at the end."""
        self._settle()
        self._path_kinds.report(self._findings)
        whole = [Place(0)]
        if not self.rows:
            self._findings.add(EMPTY, "$", "The input has no rows.", whole)
        if self.rows > self._limits.rows:
            message = f"The input has {self.rows:,} rows; a job takes {self._limits.rows:,}."
            self._findings.add(TOO_MANY_ROWS, "$", message, whole)
        self._check_size()
        return self._findings.report(self.rows, self.size)

    def _check_size(self) -> None:
        if self._file_size > self._limits.size:
            message = f"The file has {self._file_size:,} bytes; the import takes {self._limits.size:,}."
            self._findings.add(TOO_LARGE, "$", message, [Place(0, None, self._file)])

    def _learn(self, name: Hashable, row: dict[str, Any]) -> _Shape:
        """Check a row of a new shape."""
        structure = Structure(row)
        problems = [*structure.problems, *self._row_rules.problems(row)]
        if _key(row) is None:
            problems.append(Problem(NO_KEY, "$", "The row has no key."))
        if len(self._shapes) >= _REMEMBERED_SHAPES:
            self._settle()
        shape = self._shapes[name] = _Shape(structure.kinds, problems)
        return shape

    def _settle(self) -> None:
        """Turn what was learnt about shapes into findings, and forget the shapes."""
        for shape in self._shapes.values():
            self._path_kinds.add(shape.kinds, shape.lines, shape.first)
            for problem in shape.problems:
                self._findings.add(*problem, shape.first, shape.lines)
        self._shapes.clear()

    def _check_key(self, key: str, row: dict[str, Any]) -> None:
        place, path = Place(self.lines, key, self._file), f"$.{KEY_FIELD}"
        if isinstance(row.get(KEY_FIELD), str) and _LIKE_NUMBER.fullmatch(key):
            self._findings.add(NUMBER_LIKE_KEY, path, "The key comes back as a number.", [place])
        earlier = self._keys.add(key, self._before + self.lines)
        if earlier:
            where = (
                f"Line {earlier - self._before:,}" if earlier > self._before else "A line of an earlier file"
            )
            fix = f"{DUPLICATE_KEY.fix} {where} has it too."
            self._findings.add(DUPLICATE_KEY, path, "The key is not the only one.", [place], fix=fix)


_TOO_DEEP = "Schema nested too deeply, at least 16 compared to the maximum allowed level of 15"


def _parse(line: bytes) -> dict[str, Any]:
    """Read a line.

    :raises _RefusedError: the import would not read it
    """
    row: Any = None
    if _decode_fast is not None:
        try:
            row = _decode_fast(line)
        except Exception:
            # Whatever it is, the next reader says it better.
            row = None
    if type(row) is not dict:
        row = _parse_or_explain(line)
    if type(row.get("request")) is not dict:
        raise _RefusedError(
            NO_REQUEST,
            "Error while reading data, error message: the row has no field `request` that is an object.",
        )
    return row  # type: ignore[no-any-return]


def _parse_or_explain(line: bytes) -> dict[str, Any]:
    problem = "Error while reading data, error message: JSON parsing error"
    try:
        row = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise _RefusedError(NOT_UTF8, f"{problem}: byte {error.start + 1} is not UTF-8.") from None
    except RecursionError:
        raise _RefusedError(TOO_DEEP, _TOO_DEEP) from None
    except json.JSONDecodeError as error:
        if line.startswith(_BOM):
            raise _RefusedError(BOM, f"{problem}: the line begins with a byte order mark.") from None
        raise _RefusedError(NOT_JSON, f"{problem}: {error.msg}, at character {error.pos + 1}.") from None
    except ValueError:
        raise _RefusedError(NOT_JSON, f"{problem}: a number that JSON does not have.") from None
    if not isinstance(row, dict):
        raise _RefusedError(NOT_AN_OBJECT, f"{problem}: the row is not a JSON object.")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


# NaN and Infinity are Python's, not JSON.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _key(row: dict[str, Any]) -> str | None:
    """The key of a row: beside the request, else its label."""
    key = row.get(KEY_FIELD)
    if key is None:
        labels = row["request"].get("labels")
        key = labels.get(KEY_LABEL) if type(labels) is dict else None
    return key if type(key) is str or key is None else str(key)
