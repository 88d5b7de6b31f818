"""Where a row holds its key: a member next to ``request``, or a label inside the request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from airflow_gemini_batch.batch_job import OUTPUT_COLUMNS
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.keys import KEY_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LABELS = ("request", "labels")
# What the service writes next to `request`, so that no key can be there.
_RESERVED = ("request", "processed_time", *OUTPUT_COLUMNS)
# Letters, digits, `_` and `-`: such names need no escape in a path, in SQL or in a regular expression.
_NAME = re.compile(r"[^\W\d][\w-]{0,127}")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORMS = (
    "name the member next to `request` that holds the key, such as 'custom_id', 'metadata.request_id' for a "
    "nested one, or 'labels.NAME' for a label of the request"
)


@dataclass(frozen=True)
class KeyField:
    """The place of the key in a row of the input and of the output.

    :param names: the names of the members on the way to the key
    """

    names: tuple[str, ...] = (KEY_FIELD,)

    @classmethod
    def parse(cls, text: object, parameter: str = "key_field") -> Self:
        """Parse ``custom_id``, ``metadata.request_id`` or ``labels.NAME``.

        :raises InvalidParameterError: it names no place of a key
        """
        names = tuple(text.split(".")) if isinstance(text, str) else ()
        if not names or not all(map(_NAME.fullmatch, names)):
            raise InvalidParameterError(parameter, text, _FORMS)
        if names[0] == "labels":
            names = ("request", *names)
        is_label = names[:2] == _LABELS
        if (len(names) != 3) if is_label else names[0] in _RESERVED:
            fix = "the service writes this member itself; " if names[0] in _RESERVED[1:] else ""
            raise InvalidParameterError(parameter, text, fix + _FORMS)
        return cls(names)

    def __str__(self) -> str:
        return ".".join(self.names[1:] if self.is_label else self.names)

    @property
    def is_label(self) -> bool:
        """Whether the key is a label inside the request."""
        return self.names[0] == "request"

    @property
    def json_path(self) -> str:
        """The path in a row, for GoogleSQL's JSON functions."""
        return _json_path(self.names)

    @property
    def path_in_column(self) -> str:
        """The path in the first member, which is a column of a table."""
        return _json_path(self.names[1:])

    @property
    def torn_pattern(self) -> str:
        """A regular expression that finds the key, as JSON, in a line that is cut off."""
        if self.is_label:
            return rf'"labels"\s*:\s*\{{[^{{}}]*"{self.names[2]}"\s*:\s*("[^"\\]*")'
        members = r"\s*\{\s*".join(f'"{name}"\\s*:' for name in self.names)
        return rf'^\s*\{{\s*{members}\s*("[^"\\]*"|-?[0-9]+)'

    def column(self, columns: Iterable[str]) -> str | None:
        """Return the column of a table that has the key, or contains it; BigQuery ignores case."""
        wanted = self.names[0]
        found = {name.lower(): name for name in columns}
        return found.get(wanted.lower())

    def read(self, row: Mapping[str, Any]) -> str | None:
        """Return the key of a row as text; ``None`` if there is none, or an object or array."""
        return as_key(self.value(row))

    def value(self, row: Mapping[str, Any]) -> Any:
        """Return what a row has in the place of the key; ``None`` if nothing."""
        value: Any = row
        for name in self.names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    def line(self, key: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the line of a request; a label is written by whoever builds the request."""
        if self.is_label:
            return {"request": request}
        value: Any = key
        for name in reversed(self.names):
            value = {name: value}
        return {**value, "request": request}


DEFAULT_KEY_FIELD = KeyField()


def as_key(value: object) -> str | None:
    """Return a JSON value as the text that SQL makes of it; ``None`` for null, objects and arrays."""
    if type(value) is str or value is None:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else None


def _json_path(names: Iterable[str]) -> str:
    steps = (f".{name}" if _PLAIN.fullmatch(name) else f'."{name}"' for name in names)
    return "".join(("$", *steps))
