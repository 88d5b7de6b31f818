"""The rules for single requests as conditions in SQL, so that BigQuery checks the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.requests.checking.findings import Level, Rule
from airflow_gemini_batch.requests.checking.model_rules import PlaceRule, place_rules
from airflow_gemini_batch.requests.checking.value_tests import IsScalar, spellings

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT_FOR_OBJECT = Rule(
    "wrong-type", Level.JOB, "Write an object or an array there, as the documentation of the API has it."
)
# What a file is refused for by its types. In a table, the job would fail while it reads the row.
_OBJECTS = (
    *("contents", "contents[]", "contents[].parts", "contents[].parts[]"),
    *("systemInstruction", "systemInstruction.parts[]", "generationConfig", "tools", "tools[]"),
)


@dataclass(frozen=True)
class RowConditions:
    """Conditions on the rows of a table of requests.

    :param rules: those that fail a row
    :param scalars: those that fail the job
    :cvar member_prefix: of the columns with the members of a request, so that no column of a user is named so
    """

    member_prefix: ClassVar[str] = "gemini_batch_member_"

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

    @property
    def any_rule(self) -> str:
        """The condition for rows that break any rule, over columns with the results of the conditions."""
        return " OR ".join(f"rule_{index}" for index in range(len(self.rules)))

    def findings(self, counts: Mapping[str, Any]) -> str:
        """Return how many rows would fail, and which rules they break; empty if none would.

        :param counts: as ``rules.jinja`` names them
        """
        found: dict[str, int] = {}
        for index, rule in enumerate(self.rules):
            if count := counts[f"rule_{index}"]:
                found[rule.title] = found.get(rule.title, 0) + count
        if not found:
            return ""
        rules = ", ".join(f"{title} {count:,} ×" for title, count in found.items())
        return f"{counted(counts['failing_rows'], 'row')} would fail: {rules}"

    def wrong_types(self, counts: Mapping[str, Any]) -> str | None:
        """Return what is wrong with rows that would fail the job; ``None`` if there are none."""
        if not counts["wrong_types"]:
            return None
        return (
            f"{counted(counts['wrong_types'], 'row')} with text, a number or a boolean where a request has "
            "an object, such as in contents, parts or generationConfig; write "
            '"parts": [{"text": "…"}]'
        )


def condition(rule: PlaceRule) -> str:
    """Return the condition for rows that break a rule.

    Its columns are the members of the request, see ``rules.jinja``.
    """
    (name, is_repeated), *steps = rule.steps
    columns = [f"{RowConditions.member_prefix}{spelling}" for spelling in spellings(name)]
    return _any_holds(rule, columns, is_repeated, steps, 1)


def _any_holds(
    rule: PlaceRule, values: list[str], is_repeated: bool, steps: list[tuple[str, bool]], depth: int
) -> str:
    """Return the condition for any of some values on the way to the place of a rule.

    :param steps: from there to the place
    """
    value, sources = values[0], []
    if len(values) > 1:
        value = f"value_{depth}"
        sources.append(f"UNNEST([{', '.join(values)}]) AS {value}")
    if is_repeated:
        # A single element may stand for an array of one.
        items = f"IF(JSON_TYPE({value}) = 'array', JSON_QUERY_ARRAY({value}, '$'), [{value}])"
        value = f"item_{depth}"
        sources.append(f"UNNEST({items}) AS {value}")
    if steps:
        paths, repeated, left = _next(steps)
        members = [f"JSON_QUERY({value}, '$.{path}')" for path in paths]
        found = _any_holds(rule, members, repeated, left, depth + 1)
    else:
        found = rule.test.sql(value)
    if not sources:
        return found
    return f"EXISTS (SELECT 1 FROM {', '.join(sources)} WHERE {found})"  # noqa: S608 - no values of users


def _next(steps: list[tuple[str, bool]]) -> tuple[list[str], bool, list[tuple[str, bool]]]:
    """Return the paths, in all spellings, to the next repeated step or the end; and the steps after it."""
    paths = [""]
    for index, (name, is_repeated) in enumerate(steps):
        paths = [f"{path}.{spelling}".lstrip(".") for path in paths for spelling in spellings(name)]
        if is_repeated:
            return paths, True, steps[index + 1 :]
    return paths, False, []
