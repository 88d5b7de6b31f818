"""Tests of a value in a request, each in Python and in SQL, so that files and tables have the same rules.

In SQL, a value is an expression of type JSON.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from airflow_gemini_batch.gcp.discovery import elements, snake_case

_INTEGER = r"-?[0-9]{1,40}"


class ValueTest(ABC):
    """Whether a value is one that the service refuses or ignores."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Whether it does, for a parsed value."""

    @abstractmethod
    def sql(self, value: str) -> str:
        """Return the same as an expression in GoogleSQL."""

    def within(self, _value: Any) -> str:
        """Return the path inside a value to what is wrong with it; empty for all of it."""
        return ""


@dataclass(frozen=True)
class IsGiven(ValueTest):
    """There is a value, and it is not null."""

    def holds(self, value: Any) -> bool:
        """Whether it is given."""
        return value is not None

    def sql(self, value: str) -> str:
        """Return the same in SQL."""
        return f"IFNULL(JSON_TYPE({value}), 'null') != 'null'"


@dataclass(frozen=True)
class IsNotOneOf(ValueTest):
    """It is text other than these, whatever the case.

    :param values: in capitals
    """

    values: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        """Whether it is other text."""
        return isinstance(value, str) and value.upper() not in self.values

    def sql(self, value: str) -> str:
        """Return the same in SQL."""
        values = ", ".join(f"'{each}'" for each in self.values)
        return f"IF(JSON_TYPE({value}) = 'string', UPPER(JSON_VALUE({value}, '$')) NOT IN ({values}), FALSE)"


@dataclass(frozen=True)
class IsOutside(ValueTest):
    """It is a number outside a range; integers may be written in quotes.

    :param high: ``None`` for no upper end
    """

    low: int
    high: int | None

    def holds(self, value: Any) -> bool:
        """Whether it is outside."""
        if isinstance(value, str):
            return bool(re.fullmatch(_INTEGER, value)) and self._is_outside(int(value))
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self._is_outside(value)

    def _is_outside(self, number: float) -> bool:
        return number < self.low or (self.high is not None and number > self.high)

    def sql(self, value: str) -> str:
        """Return the same in SQL."""
        text = f"JSON_VALUE({value}, '$')"
        digits = f"IF(JSON_TYPE({value}) = 'number', {text}, REGEXP_EXTRACT({text}, r'^{_INTEGER}$'))"
        number = f"SAFE_CAST({digits} AS FLOAT64)"
        above = "" if self.high is None else f" OR {number} > {self.high}"
        return f"({number} < {self.low}{above})"


@dataclass(frozen=True)
class DoesNotMatch(ValueTest):
    """It is text that does not match.

    :param pattern: for the whole text, in syntax that Python and RE2 share
    """

    pattern: str

    def holds(self, value: Any) -> bool:
        """Whether it does not match."""
        return isinstance(value, str) and not re.fullmatch(self.pattern, value)

    def sql(self, value: str) -> str:
        """Return the same in SQL."""
        matches = f"REGEXP_CONTAINS(JSON_VALUE({value}, '$'), r'^(?:{self.pattern})$')"
        return f"IF(JSON_TYPE({value}) = 'string', NOT {matches}, FALSE)"


@dataclass(frozen=True)
class Lacks(ValueTest):
    """It is an object without a member, or with null for it.

    :param name: in camelCase
    """

    name: str

    def holds(self, value: Any) -> bool:
        """Whether it lacks the member."""
        return isinstance(value, dict) and not any(
            value.get(name) is not None for name in spellings(self.name)
        )

    def sql(self, value: str) -> str:
        """Return the same in SQL."""
        given = " OR ".join(
            IsGiven().sql(f"JSON_QUERY({value}, '$.{name}')") for name in spellings(self.name)
        )
        return f"IFNULL(JSON_TYPE({value}), '') = 'object' AND NOT ({given})"


@dataclass(frozen=True)
class HasBoth(ValueTest):
    """It is an object of which two members hold their tests.

    :param tests: test by name of the member, in camelCase
    """

    tests: tuple[tuple[str, ValueTest], ...]

    def holds(self, value: Any) -> bool:
        """Whether it has both."""
        return isinstance(value, dict) and all(
            any(test.holds(value.get(spelling)) for spelling in spellings(name)) for name, test in self.tests
        )

    def sql(self, value: str) -> str:
        """Return the same in SQL."""
        conditions = (
            " OR ".join(test.sql(f"JSON_QUERY({value}, '$.{spelling}')") for spelling in spellings(name))
            for name, test in self.tests
        )
        return " AND ".join(f"({condition})" for condition in conditions)


@dataclass(frozen=True)
class LastHas(ValueTest):
    """It is an array whose last element has this text as a member; or a single such element."""

    name: str
    text: str

    def holds(self, value: Any) -> bool:
        """Whether the last element has it."""
        last = elements(value)[-1:]
        return bool(last) and isinstance(last[0], dict) and last[0].get(self.name) == self.text

    def within(self, value: Any) -> str:
        """Return the path to that member."""
        return (f"[{len(value) - 1}]" if isinstance(value, list) else "") + f".{self.name}"

    def sql(self, value: str) -> str:
        """Return the same in SQL."""
        items = f"JSON_QUERY_ARRAY({value}, '$')"
        last = f"{items}[SAFE_OFFSET(ARRAY_LENGTH({items}) - 1)]"
        return (
            f"JSON_VALUE(IF(JSON_TYPE({value}) = 'array', {last}, {value}), '$.{self.name}') = '{self.text}'"
        )


@dataclass(frozen=True)
class IsScalar(ValueTest):
    """It is text, a number or a boolean."""

    def holds(self, value: Any) -> bool:
        """Whether it is."""
        return isinstance(value, (str, int, float))

    def sql(self, value: str) -> str:
        """Return the same in SQL."""
        return f"JSON_TYPE({value}) IN ('string', 'number', 'boolean')"


def spellings(name: str) -> tuple[str, ...]:
    """Return the names of a field that the service accepts: in camelCase and in snake_case."""
    return tuple(dict.fromkeys((name, snake_case(name))))
