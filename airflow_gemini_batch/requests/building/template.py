"""Prompt templates: text with named fields, filled from rows."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PromptTemplate:
    """``Classify {title}: {body}``. Fields are plain names; ``{{`` and ``}}`` are braces.

    What fills a field is text: braces in it, of Python or of Jinja, mean nothing.

    :raises InvalidParameterError: the template cannot be read, or has no field
    """

    text: str
    _pieces: tuple[tuple[str, str | None], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            pieces = tuple(string.Formatter().parse(self.text))
        except (ValueError, TypeError) as error:
            raise InvalidParameterError(
                "template", self.text, f"{error}; fields are {{name}}, and {{{{ is a brace"
            ) from None
        for _, name, spec, conversion in pieces:
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise InvalidParameterError(
                    "template", self.text, f"{{{name}}} is no plain name; write {{{{ for a brace"
                )
        object.__setattr__(self, "_pieces", tuple((literal, name) for literal, name, _, _ in pieces))
        if not self.fields:
            raise InvalidParameterError("template", self.text, "it has no field; write {name} for one")

    @property
    def fields(self) -> tuple[str, ...]:
        """The names, in order, each once."""
        return tuple(dict.fromkeys(name for _, name in self._pieces if name is not None))

    def fill(self, values: Mapping[str, Any]) -> str:
        """The prompt for one row.

        :raises KeyError: the row has no such field
        """
        return "".join(
            [literal if name is None else f"{literal}{values[name]}" for literal, name in self._pieces]
        )
