"""Groups lines by shape. Lines of the same shape break the same rules, so only one of them is checked.

A shape consists of the names, the types of the values, and those values that a rule looks at, such as roles.
Free text, which differs from line to line, is not part of it. Computing a shape costs a fraction of a check.
"""

from __future__ import annotations

import marshal
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

# Usually the same in all requests of a file, and written the same way.
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
    """Computes the shapes of rows.

    :param checked: names of fields whose value matters to a rule, not only its type
    :param numbers: those of them whose value matters also if it is a number
    """

    def __init__(self, checked: frozenset[str], numbers: frozenset[str] = frozenset()) -> None:
        self._checked = checked
        self._checked_numbers = numbers
        self._settings: dict[bytes, int] = {}
        self._kinds: dict[Hashable, int] = {}
        self._numbers = count()

    def of(self, row: dict[str, Any]) -> Hashable:
        """Return the shape of a row: a value that is equal only for rows of the same shape.

        :raises RecursionError: the row is nested too deeply
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
        """Return a number for the shape of a value that other lines probably contain byte for byte."""
        try:
            # Format 2 has no references between values, so equal values have equal bytes.
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
        elif name in self._checked_numbers:
            shape.append((value,) if kind in (int, float) else kind)
        elif kind is int:
            shape.append(int if -_SMALL <= value < _SMALL else (value,))
        elif kind is float:
            small = -_SMALL <= value < _SMALL
            shape.append(((float,) if value.is_integer() else float) if small else (value,))
        else:
            shape.append(kind)
