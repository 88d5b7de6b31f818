"""Finds what the service would reject in the input of a batch job, before the job is submitted.

The input is streamed: memory depends on how many different shapes its lines have, not on the number of lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.models import find_model
from airflow_gemini_batch.requests.checking.earlier_output import input_part, is_output
from airflow_gemini_batch.requests.checking.embedding_rules import WHOLE_NUMBERS, EmbeddingRules
from airflow_gemini_batch.requests.checking.findings import Findings, Level, Place, Report, Rule
from airflow_gemini_batch.requests.checking.inferred_columns import (
    TOO_DEEP,
    TOO_DEEP_MESSAGE,
    PathKinds,
    Problem,
    Structure,
)
from airflow_gemini_batch.requests.checking.key_uniqueness import KeyTable
from airflow_gemini_batch.requests.checking.likely_keys import LikelyKeys
from airflow_gemini_batch.requests.checking.line_shapes import Shapes
from airflow_gemini_batch.requests.checking.model_rules import place_rules, problems, value_classes
from airflow_gemini_batch.requests.checking.parsed_line import RefusedLineError, parse
from airflow_gemini_batch.requests.checking.request_rules import row_problems
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD, KeyField, as_key
from airflow_gemini_batch.requests.keys import KEY_FIELD, KEY_LABEL, SAME_KEY
from airflow_gemini_batch.requests.request_fields import is_embedding, names_with_checked_values
from airflow_gemini_batch.service import MAX_BYTES, MAX_EMBEDDINGS, MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_REMEMBERED_SHAPES = 2048

EMPTY = Rule("empty", Level.JOB, "Add rows, or skip the job if there is nothing to process.")
TOO_MANY_ROWS = Rule(
    "too-many-rows", Level.JOB, "Split the input into several jobs, for example with mapped tasks."
)
TOO_LARGE = Rule("too-large", Level.JOB, "Split the file, or store the input in a BigQuery table.")
DUPLICATE_KEY = Rule(
    "duplicate-key",
    Level.RESULT,
    f"Give each row its own key: {SAME_KEY}.",
)
NUMBER_LIKE_KEY = Rule(
    "number-like-key",
    Level.RESULT,
    'Start the key with a letter. The service returns "000123" as 123.',
)
NO_KEY = Rule(
    "no-key",
    Level.ADVICE,
    f'Add `"{KEY_FIELD}": "…"` next to `request`. The output is not in the order of the input, and without '
    "keys results are joined by the content of the request.",
)
EARLIER_OUTPUT = Rule(
    "earlier-output",
    Level.ADVICE,
    "According to Google's documentation, the service runs only the rows that failed and copies the others; "
    "no published run confirms it. Rows that are missing from this output are not run.",
)


@dataclass(frozen=True)
class Limits:
    """The limits of one job.

    :param rows: number of requests
    :param size: of one file, in bytes
    """

    rows: int = MAX_ROWS
    size: int = MAX_BYTES

    @classmethod
    def of(cls, model: str | None, *, is_embedding: bool = False) -> Limits:
        """Return the limits of a job.

        :param model: in any form of its name
        :param is_embedding: what to assume of a model that is not given or not known
        """
        known = find_model(model) if model else None
        return cls(rows=known.max_rows if known else MAX_EMBEDDINGS if is_embedding else MAX_ROWS)


@dataclass
class _Shape:
    """What the check knows about all lines of one shape."""

    kinds: dict[str, int]
    problems: list[Problem]
    is_embedding: bool = False
    lines: int = 0
    first: list[Place] = field(default_factory=list)


def check(
    lines: Iterable[bytes],
    *,
    limits: Limits | None = None,
    key_field: KeyField = DEFAULT_KEY_FIELD,
    model: str | None = None,
) -> Report:
    """Check the lines of one file.

    :param lines: split at newline bytes only, with or without them, such as a file opened in binary mode
    :param limits: default: the service's limits
    :param key_field: where a row has its key
    :param model: the model of the job, in any form of its name; without it, only the rules that hold for
        every model apply
    """
    checker = Check(limits, key_field, model=model)
    checker.add_all(lines)
    return checker.report()


class Check:
    """A check that is fed line by line."""

    def __init__(
        self,
        limits: Limits | None = None,
        key_field: KeyField = DEFAULT_KEY_FIELD,
        *,
        model: str | None = None,
    ) -> None:
        self._limits = limits or Limits.of(model)
        self._limits_of_embeddings = limits or Limits.of(model, is_embedding=True)
        self._key_field = key_field
        self._likely_keys = LikelyKeys()
        self._without_key: list[Place] = []
        self._rows_without_key = 0
        self._rules, self._embedding_rules = place_rules(model), EmbeddingRules(model)
        self._rows_by_kind = {True: 0, False: 0}
        self._findings = Findings()
        self._path_kinds = PathKinds()
        classes = {**value_classes(self._rules), **WHOLE_NUMBERS}
        self._shape_of = Shapes(names_with_checked_values(), classes).of
        self._shapes: dict[Hashable, _Shape] = {}
        self._keys = KeyTable(self._limits_of_embeddings.rows)
        self._file = ""
        self._before = 0
        self._file_size = 0
        self._failing_rows = 0
        self.lines = 0
        self.rows = 0
        self.size = 0

    def start_file(self, name: str) -> None:
        """Start another file of the same job: line numbers and the size of the file start again."""
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
            row = parse(line)
        except RefusedLineError as error:
            self._findings.add(error.rule, "$", error.message, [Place(self.lines, None, self._file)])
            return
        key = self._key(row)
        if is_output(row):
            place = Place(self.lines, key, self._file)
            self._findings.add(EARLIER_OUTPUT, "$", "The line is output of an earlier job.", [place])
            row = input_part(row)
        if key is not None:
            self._check_key(key, row)
        else:
            self._miss_key(row)
        try:
            name = self._shape_of(row)
            shape = self._shapes.get(name)
            if shape is None:
                shape = self._learn(name, row)
        except RecursionError:
            self._findings.add(TOO_DEEP, "$", TOO_DEEP_MESSAGE, [Place(self.lines, key, self._file)])
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
        """Return the findings of all lines. Call it only once, after the last line."""
        self._settle()
        self._path_kinds.report(self._findings)
        self._report_rows_without_key()
        whole = [Place(0)]
        if not self.rows:
            self._findings.add(EMPTY, "$", "The input has no rows.", whole)
        are_embeddings = self._rows_by_kind[True] and not self._rows_by_kind[False]
        limits = self._limits_of_embeddings if are_embeddings else self._limits
        if self.rows > limits.rows:
            message = f"The input has {self.rows:,} rows; a job takes {limits.rows:,}."
            self._findings.add(TOO_MANY_ROWS, "$", message, whole)
        self._check_size()
        return self._findings.report(self.rows, self.size, self._failing_rows)

    def _check_size(self) -> None:
        if self._file_size > self._limits.size:
            limit = f"the limit of the import is {self._limits.size:,}"
            message = f"The file has {self._file_size:,} bytes; {limit}."
            self._findings.add(TOO_LARGE, "$", message, [Place(0, None, self._file)])

    def _learn(self, name: Hashable, row: dict[str, Any]) -> _Shape:
        """Check a row of a new shape."""
        structure = Structure(row)
        found = self._embedding_rules.problems(row)
        if found is None:
            found = [*row_problems(row), *problems(row["request"], self._rules)]
        if len(self._shapes) >= _REMEMBERED_SHAPES:
            self._settle()
        is_vector = is_embedding(row["request"])
        shape = self._shapes[name] = _Shape(structure.kinds, [*structure.problems, *found], is_vector)
        return shape

    def _settle(self) -> None:
        """Turn what is known about the shapes into findings, and forget the shapes."""
        for shape in self._shapes.values():
            self._rows_by_kind[shape.is_embedding] += shape.lines
            self._path_kinds.add(shape.kinds, shape.lines, shape.first)
            if any(problem.rule.level is Level.ROW for problem in shape.problems):
                self._failing_rows += shape.lines
            for problem in shape.problems:
                self._findings.add(*problem, shape.first, shape.lines)
        self._shapes.clear()

    def _key(self, row: dict[str, Any]) -> str | None:
        """Return the key of a row: the one in its place, else our label."""
        key = self._key_field.read(row)
        if key is None:
            labels = row["request"].get("labels")
            key = as_key(labels.get(KEY_LABEL)) if type(labels) is dict else None
        return key

    def _miss_key(self, row: dict[str, Any]) -> None:
        self._rows_without_key += 1
        if len(self._without_key) < Findings.KEPT_LINES:
            self._without_key.append(Place(self.lines, None, self._file))
        self._likely_keys.add(row)

    def _report_rows_without_key(self) -> None:
        if not self._without_key:
            return
        fix, count = NO_KEY.fix, self._rows_without_key
        if (other := self._likely_keys.find()) and count == self.rows:
            fix = (
                f'Each row has a member `{other}`. If it is the key, set `key_field="{other}"` on the tasks, '
                f"and `--key-field {other}` here. Otherwise: {fix}"
            )
        self._findings.add(NO_KEY, "$", "The row has no key.", self._without_key, count, fix)

    def _check_key(self, key: str, row: dict[str, Any]) -> None:
        if not key[:1].isalpha() and _NUMBER.fullmatch(key) and isinstance(self._key_field.value(row), str):
            self._find_in_key(NUMBER_LIKE_KEY, "The service returns the key as a number.", key)
        if earlier := self._keys.add(key, self._before + self.lines):
            where = (
                f"Line {earlier - self._before:,}" if earlier > self._before else "A line of an earlier file"
            )
            fix = f"{DUPLICATE_KEY.fix} {where} has the same key."
            self._find_in_key(DUPLICATE_KEY, "Another row has the same key.", key, fix)

    def _find_in_key(self, rule: Rule, message: str, key: str, fix: str = "") -> None:
        place = Place(self.lines, key, self._file)
        self._findings.add(rule, self._key_field.json_path, message, [place], fix=fix)
