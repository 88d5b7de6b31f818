"""The rules for single requests as conditions in SQL, so that BigQuery checks the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.requests.checking.findings import Level, Rule
from airflow_gemini_batch.requests.checking.model_rules import PlaceRule, place_rules
from airflow_gemini_batch.requests.checking.value_tests import IsScalar, spellings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TEXT_FOR_OBJECT = Rule(
    "wrong-type", Level.JOB, "Write an object or an array there, as the documentation of the API has it."
)
# What a file is refused for by its types. In a table, the job would fail while it reads the row.
_OBJECTS = (
    *("contents", "contents[]", "contents[].parts", "contents[].parts[]"),
    *("systemInstruction", "systemInstruction.parts", "generationConfig", "tools", "tools[]"),
)
MEMBER_PREFIX = "gemini_batch_member_"
"""Columns with the members of a request have this prefix, so that no column of a user has their names."""


@dataclass(frozen=True)
class RowConditions:
    """Conditions on the rows of a table of requests.

    :param rules: those that fail a row
    :param scalars: those that fail the job
    """

    rules: tuple[PlaceRule, ...]
    scalars: tuple[PlaceRule, ...] = tuple(
        PlaceRule(_TEXT_FOR_OBJECT, place, IsScalar(), "The value is not an object.") for place in _OBJECTS
    )

    @classmethod
    def of(cls, model: str | None) -> RowConditions:
        """Return the conditions for requests to a model, in any form of its name; ``None`` if unknown."""
        return cls(tuple(rule for rule in place_rules(model) if rule.rule.level is Level.ROW))

    @property
    def members(self) -> tuple[str, ...]:
        """The members of a request that the conditions read, in both spellings."""
        used = (rule.steps[0][0] for rule in (*self.rules, *self.scalars))
        return tuple(dict.fromkeys(spelling for name in used for spelling in spellings(name)))

    @property
    def columns(self) -> dict[str, str]:
        """The conditions as expressions over columns of type JSON, by the name of their count."""
        return {
            **{f"rule_{index}": condition(rule) for index, rule in enumerate(self.rules)},
            "wrong_types": " OR ".join(map(condition, self.scalars)),
        }

    def findings(self, counts: Mapping[str, Any]) -> str:
        """Return how many rows break which rule; empty if none does.

        :param counts: by the names in :attr:`columns`
        """
        found: dict[str, int] = {}
        for index, rule in enumerate(self.rules):
            if count := counts[f"rule_{index}"]:
                found[rule.title] = found.get(rule.title, 0) + count
        return ", ".join(f"{title} {count:,} ×" for title, count in found.items())


def condition(rule: PlaceRule) -> str:
    """Return the condition for rows that break a rule.

    Its columns are the members of the request, with ``MEMBER_PREFIX``.
    """
    (name, is_repeated), *steps = rule.steps
    columns = (f"{MEMBER_PREFIX}{spelling}" for spelling in spellings(name))
    return " OR ".join(_holds(rule, column, is_repeated, steps, 1) for column in columns)


def _holds(rule: PlaceRule, value: str, is_repeated: bool, steps: list[tuple[str, bool]], depth: int) -> str:
    """Return the condition for a value on the way to the place of a rule."""
    if is_repeated:
        # A single element may stand for an array of one.
        item = f"item_{depth}"
        items = f"IF(JSON_TYPE({value}) = 'array', JSON_QUERY_ARRAY({value}, '$'), [{value}])"
        inner = _holds(rule, item, False, steps, depth + 1)
        return f"EXISTS (SELECT 1 FROM UNNEST({items}) AS {item} WHERE {inner})"
    if not steps:
        return rule.test.sql(value)
    conditions = (
        _holds(rule, _member(value, path), repeated, left, depth) for path, repeated, left in _ways(steps)
    )
    return f"({' OR '.join(conditions)})"


def _ways(steps: list[tuple[str, bool]]) -> Iterator[tuple[str, bool, list[tuple[str, bool]]]]:
    """Yield the paths, in all spellings, to the next repeated step or the end; and the steps after it."""
    (name, is_repeated), *left = steps
    for spelling in spellings(name):
        if is_repeated or not left:
            yield spelling, is_repeated, left
        else:
            for path, repeated, further in _ways(left):
                yield f"{spelling}.{path}", repeated, further


def _member(value: str, path: str) -> str:
    return f"JSON_QUERY({value}, '$.{path}')"
