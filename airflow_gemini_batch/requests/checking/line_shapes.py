"""Tells lines apart by their shape: lines of one shape break the same rules, so one of them is checked.

A shape is the names, the kinds of the values, and those values that a rule looks at, such as roles. Free
text, which differs from line to line, is not part of it. Finding it costs a fraction of checking a line.
"""

from __future__ import annotations

import marshal
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

# What the requests of a file usually have in common, written the same way in each.
_SETTINGS = frozenset(
    {
        *("generationConfig", "generation_config", "safetySettings", "safety_settings"),
        *("tools", "toolConfig", "tool_config"),
    }
)
_REMEMBERED = 1024
_LONG_BYTES = 65_536
_SMALL = 2**31


class Shapes:
    """Finds the shape of rows.

    :param checked: names of members whose value matters to a rule, not only its kind
    """

    def __init__(self, checked: frozenset[str]) -> None:
        self._checked = checked
        self._settings: dict[bytes, int] = {}
        self._kinds: dict[Hashable, int] = {}
        self._numbers = count()

    def of(self, row: dict[str, Any]) -> Hashable:
        """Return what is equal for rows of the same shape only.

        :raises RecursionError: the row is nested too deeply to look at
        """
        shape: list[Any] = [tuple(row)]
        for name, value in row.items():
            if name == "request" and type(value) is dict:
                shape.append(tuple(value))
                for field, item in value.items():
                    if field in _SETTINGS:
                        shape.append(self._setting(field, item))
                    else:
                        self._add(field, item, shape)
            else:
                self._add(name, value, shape)
        return tuple(shape)

    def _setting(self, name: str, value: Any) -> int:
        """Return a number for the shape of a value that was probably seen, byte by byte, in other lines."""
        try:
            # Format 2 has no references between values, so that equal values are equal bytes.
            content = marshal.dumps(value, 2)
        except ValueError:
            raise RecursionError from None
        number = self._settings.get(content)
        if number is None:
            if len(self._settings) >= _REMEMBERED:
                self._settings.clear()
                self._kinds.clear()
            shape: list[Any] = []
            self._add(name, value, shape)
            number = self._kinds.setdefault(tuple(shape), next(self._numbers))
            if len(content) <= _LONG_BYTES:
                self._settings[content] = number
        return number

    def _add(self, name: str, value: Any, shape: list[Any]) -> None:
        kind = type(value)
        if kind is str:
            shape.append(value if name in self._checked else str)
        elif kind is dict:
            shape.append(tuple(value))
            checked = self._checked
            for member, item in value.items():
                if type(item) is str:
                    shape.append(item if member in checked else str)
                else:
                    self._add(member, item, shape)
        elif kind is list:
            shape.append(len(value))
            for item in value:
                self._add(name, item, shape)
        elif kind is int:
            shape.append(int if -_SMALL <= value < _SMALL else (value,))
        elif kind is float:
            small = -_SMALL <= value < _SMALL
            shape.append(((float,) if value.is_integer() else float) if small else (value,))
        else:
            shape.append(kind)
