"""The import of input from Cloud Storage: checks that BigQuery can load it, with one type per column.

The service loads the lines into a table whose schema it detects: every field becomes a column, every object a
record. A single line that does not fit fails the job with code 3 before any row runs.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.running.rows import Habits
from airflow_gemini_batch.emulator.running.storage import parse_line

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ROWS = 200_000
_DEEPEST_RECORD = errors.DEEPEST_RECORD
_COLUMN_NAME = re.compile(r"^[A-Za-z_]\w{0,299}$", re.ASCII)
_AS_WRITTEN = Habits(coerces_numbers=False)
_TYPES = {str: "STRING", int: "NUMERIC", float: "NUMERIC", bool: "BOOL"}


class _Column:
    """A column of the table, as inferred from the lines read so far.

    :param path: such as ``request.tools``; empty for the row as a whole
    :param depth: number of records around it
    """

    __slots__ = ("columns", "depth", "has_null", "is_repeated", "name", "path", "type")

    def __init__(self, path: str = "", name: str = "", depth: int = 0) -> None:
        self.path = path
        self.name = name
        self.depth = depth
        self.type: str | None = None
        self.is_repeated: bool | None = None
        self.has_null = False
        self.columns: dict[str, _Column] = {}

    def column(self, name: str) -> _Column:
        """Return the column of a field; creates it for the first value."""
        column = self.columns.get(name)
        if column is None:
            if not _COLUMN_NAME.match(name) or name.endswith("\n"):
                raise _refused(
                    f'Invalid field name "{name}". Fields must contain only letters, numbers, and '
                    "underscores, start with a letter or underscore, and be at most 300 characters long."
                )
            path = f"{self.path}.{name}" if self.path else name
            column = self.columns[name] = _Column(path, name, self.depth + 1)
        return column

    def set_repeated(self, is_repeated: bool) -> None:
        """Record whether the column is an array; all lines must agree."""
        if self.is_repeated is None:
            self.is_repeated = is_repeated
        elif self.is_repeated is not is_repeated:
            raise _refused(f"Repeated field must be imported as a JSON array. Field: {self.name}.")
        if is_repeated and self.has_null:
            raise self.null_refused()

    def set_null(self) -> None:
        """Record that a line has null here."""
        self.has_null = True
        if self.is_repeated:
            raise self.null_refused()

    def set_type(self, type_: str) -> None:
        """Record the type; all lines must agree."""
        if self.type is None:
            if type_ == "RECORD" and self.depth > _DEEPEST_RECORD:
                raise errors.nested_too_deeply(self.depth)
            self.type = type_
        elif self.type != type_:
            if "RECORD" in (self.type, type_):
                raise _refused(f"JSON object specified for non-record field: {self.path}")
            raise _refused(f"Could not convert value. Field: {self.name}")

    def null_refused(self) -> errors.JobFailedError:
        """Return the failure for a null instead of an array or in an array."""
        return _refused(f"Only optional fields can be set to NULL. Field: {self.name}; Value: NULL")


def can_be_imported(line: bytes) -> bool:
    """Whether a line alone passes :func:`check_import`."""
    try:
        check_import([line])
    except errors.JobFailedError:
        return False
    return True


def check_import(lines: Sequence[bytes], max_rows: int = MAX_ROWS) -> None:
    """Fail the job unless its lines can be loaded into one table.

    :raises JobFailedError: they cannot; the message is the service's
    """
    if len(lines) > max_rows:
        raise errors.import_failed(f"The input has {len(lines):,} rows; a job takes {max_rows:,}.")
    table = _Column()
    for line in lines:
        row = parse_line(line, _AS_WRITTEN)
        _load(table, {**row.fields, "request": row.request})


def _load(table: _Column, row: dict[str, Any]) -> None:
    records = deque([(table, row)])
    while records:
        record, members = records.popleft()
        for name, value in members.items():
            column = record.column(name)
            if value is None:
                column.set_null()
                continue
            is_array = isinstance(value, list)
            column.set_repeated(is_array)
            for item in value if is_array else (value,):
                if item is None:
                    raise column.null_refused()
                if isinstance(item, list):
                    raise _refused("Nested arrays not allowed.")
                if isinstance(item, dict):
                    column.set_type("RECORD")
                    if not item:
                        raise _refused(f"Cannot store struct '{column.path}' with no fields")
                    records.append((column, item))
                else:
                    column.set_type(_TYPES[type(item)])


def _refused(problem: str) -> errors.JobFailedError:
    return errors.import_failed(f"Error while reading data, error message: {problem}")
