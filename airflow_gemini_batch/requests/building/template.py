"""Prompt templates: text with named fields that are filled from rows."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PromptTemplate:
    """A template such as ``Classify {title}: {body}``. Write ``{{`` and ``}}`` for literal braces.

    Values are inserted as they are: braces in a value have no meaning, neither for Python nor for Jinja.

    :raises InvalidParameterError: the template is malformed, has no fields, or a field is not a plain name
    """

    text: str
    _pieces: tuple[tuple[str, str | None], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            pieces = tuple(string.Formatter().parse(self.text))
        except (ValueError, TypeError) as error:
            raise InvalidParameterError(
                "template", self.text, f"{error}. Write {{name}} for a field and {{{{ for a brace"
            ) from None
        for _, name, spec, conversion in pieces:
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise InvalidParameterError(
                    "template", self.text, f"{{{name}}} is not a plain field name. Write {{{{ for a brace"
                )
        object.__setattr__(self, "_pieces", tuple((literal, name) for literal, name, _, _ in pieces))
        if not self.fields:
            raise InvalidParameterError("template", self.text, "it has no fields; write {name} for a field")

    @property
    def fields(self) -> tuple[str, ...]:
        """The distinct field names, in order."""
        return tuple(dict.fromkeys(name for _, name in self._pieces if name is not None))

    def fill(self, values: Mapping[str, Any]) -> str:
        """Return the prompt for one row.

        :raises KeyError: the row has no such field
        """
        return "".join(
            [literal if name is None else f"{literal}{values[name]}" for literal, name in self._pieces]
        )
