"""Guesses which member holds the keys of rows that have none where they are looked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.key_field import KeyField, as_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_IDENTIFIER = re.compile(r"(.*_)?(id|key)|(.*[a-z])?(Id|Key|ID)")
_COMPARED = 100


class LikelyKeys:
    """Looks for a scalar member that all rows have, and whose values differ."""

    def __init__(self) -> None:
        self._values: dict[str, set[str]] | None = None
        self._rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Look at the next row."""
        if self._values is not None and not self._values:
            return
        found = dict(_scalars(row))
        if self._values is None:
            self._values = {name: set() for name in found}
        for name in [name for name in self._values if name not in found]:
            del self._values[name]
        self._rows += 1
        if self._rows <= _COMPARED:
            for name, values in self._values.items():
                values.add(found[name])

    def find(self) -> str | None:
        """Return what to give as ``key_field``, if there is a likely one."""
        different = min(self._rows, _COMPARED)
        likely = [name for name, values in (self._values or {}).items() if len(values) == different]
        return best_name(likely)


def best_name(names: Iterable[str]) -> str | None:
    """Return the most likely one: called like an identifier, else the first."""
    known = [str(field) for field in filter(None, map(_parsed, names))]
    return min(known, key=lambda name: not is_identifier(name), default=None)


def is_identifier(name: str) -> bool:
    """Whether a member is called like an identifier, such as ``custom_id``."""
    return bool(_IDENTIFIER.fullmatch(name.rpartition(".")[2]))


def _parsed(name: str) -> KeyField | None:
    try:
        return KeyField.parse(name)
    except InvalidParameterError:
        return None


def _scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the scalars next to the request, those one level deeper, and the labels of the request."""
    objects: list[tuple[str, Any]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            objects.append((name, value) if name != "request" else ("labels", value.get("labels")))
        elif (text := as_key(value)) is not None:
            yield name, text
    for name, value in objects:
        for inner, each in value.items() if isinstance(value, dict) else ():
            if (text := as_key(each)) is not None:
                yield f"{name}.{inner}", text
