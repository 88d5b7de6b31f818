"""Groups lines by shape. Lines of the same shape break the same rules, so only one of them is checked.

A shape consists of the names, the types of the values, and those values that a rule looks at, such as roles.
Free text, which differs from line to line, is not part of it. Computing a shape costs a fraction of a check.
"""

from __future__ import annotations

import marshal
from itertools import count
from typing import TYPE_CHECKING, Any

from msgspec.json import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

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
# Three times as fast as marshal.
_encode = Encoder().encode
# Stands for the most frequent object, {"text": "…"}.
_TEXT_PART = ("text", str)


class Shapes:
    """Computes the shapes of rows.

    :param checked: names of fields whose text matters to a rule, not only its type
    :param classes: by the name of a field whose values are many, such as URIs: a function that returns what
        matters of a text or number
    """

    def __init__(
        self, checked: Iterable[str], classes: Mapping[str, Callable[[Any], Hashable]] | None = None
    ) -> None:
        self._classes = classes or {}
        # What to keep of the text of a field.
        self._of_text: dict[str, Callable[[Any], Hashable] | None] = {
            **self._classes,
            **dict.fromkeys(checked),
        }
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
                    elif type(item) is dict:
                        self._members(item, shape)
                    else:
                        self._add(field, item, shape)
            else:
                self._add(name, value, shape)
        return tuple(shape)

    def _setting(self, name: str, value: Any) -> int:
        """Return a number for the shape of a value that other lines probably contain byte for byte."""
        content = _encode(value)
        if b"null" in content:
            # It may stand for a number such as 1e999. Format 2 has no references between values, so equal
            # values have equal bytes.
            try:
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
        if kind is dict:
            self._members(value, shape)
        elif kind is list:
            shape.append(len(value))
            for item in value:
                if type(item) is dict:
                    self._members(item, shape)
                else:
                    self._add(name, item, shape)
        elif kind is str:
            classify = self._of_text.get(name, _ignore)
            shape.append(classify(value) if classify else value)
        elif kind is int or kind is float:
            shape.append(self._number(name, value))
        else:
            shape.append(kind)

    def _members(self, value: dict[str, Any], shape: list[Any]) -> None:
        # Most of the time is spent here: there are fewer calls than in a plain recursion.
        of_text = self._of_text
        shape.append(tuple(value))
        for name, item in value.items():
            kind = type(item)
            if kind is str:
                if name in of_text:
                    classify = of_text[name]
                    shape.append(classify(item) if classify else item)
                else:
                    shape.append(str)
            elif kind is list:
                shape.append(len(item))
                for each in item:
                    if type(each) is dict:
                        if len(each) == 1 and type(each.get("text")) is str and "text" not in of_text:
                            shape.append(_TEXT_PART)
                        else:
                            self._members(each, shape)
                    else:
                        self._add(name, each, shape)
            else:
                self._add(name, item, shape)

    def _number(self, name: str, value: float) -> Hashable:
        """Return what matters of a number: whether it is whole, its class, and all of it if it is large."""
        kind = (type(value), isinstance(value, int) or value.is_integer())
        if not -_SMALL <= value < _SMALL:
            return (*kind, value)
        return (*kind, self._classes[name](value)) if name in self._classes else kind


def _ignore(_: str) -> type[str]:
    """Keep only the type of a text."""
    return str
