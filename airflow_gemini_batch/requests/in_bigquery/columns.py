"""The columns of a user's query: those that make the request, and those passed through to the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import OUTPUT_COLUMNS, UNSUPPORTED_TYPES
from airflow_gemini_batch.exceptions import Described, InvalidParameterError
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.requests.request_fields import TITLE

if TYPE_CHECKING:
    from collections.abc import Iterable

_MEDIA = ("media_uri", "media_mime_type")
_OPTIONAL = ("system_instruction", *_MEDIA)
_OPTIONAL_IN_EMBEDDINGS = (*_MEDIA, TITLE)


@dataclass(frozen=True)
class TableColumn:
    """A column as BigQuery describes it.

    :param type: as the API names it, such as STRING or INTEGER
    """

    name: str
    type: str
    is_array: bool = False


@dataclass(frozen=True)
class RequestColumns:
    """The columns of a query by purpose.

    :param source: the column ``prompt`` or ``request``
    :param optional: those of ``system_instruction``, ``media_uri`` and ``media_mime_type`` that the query
        has; for embeddings, ``title`` instead of the first
    :param passed: names of all other columns except the key, which pass through to the output
    """

    source: TableColumn
    optional: dict[str, TableColumn]
    passed: tuple[str, ...]

    @classmethod
    def of(cls, columns: Iterable[TableColumn], *, are_embeddings: bool = False) -> RequestColumns:
        """Sort the columns of a query by purpose.

        :param are_embeddings: whether the requests are for an embedding model
        :raises InvalidParameterError: a column is missing, reserved, or of a type that batch jobs refuse
        """
        found = {column.name.lower(): column for column in columns}
        _check_key(found)
        sources = [found[name] for name in ("prompt", "request") if name in found]
        if len(sources) != 1:
            raise InvalidParameterError(
                "sql", _selects(found), "select either 'prompt' or 'request', not both"
            )
        source = sources[0]
        names = _OPTIONAL_IN_EMBEDDINGS if are_embeddings else _OPTIONAL
        optional = {name: found[name] for name in names if name in found}
        if are_embeddings and "system_instruction" in found:
            fix = "an embedding model takes no instructions; leave the column out"
            raise InvalidParameterError("sql", _selects(["system_instruction"]), fix)
        if source.name.lower() == "request":
            _check_type(source, ("JSON", "STRING"), arrays=False)
            optional = {name: column for name, column in optional.items() if name != TITLE}
            if optional:
                raise InvalidParameterError(
                    "sql", _selects(optional), "a 'request' is complete: put these into the request itself"
                )
        else:
            for column in (source, *optional.values()):
                _check_type(column, ("STRING",), arrays=column.name.lower() != TITLE)
        if "media_mime_type" in optional and "media_uri" not in optional:
            raise InvalidParameterError("sql", _selects(["media_mime_type"]), "select 'media_uri' as well")
        used = {KEY_FIELD, source.name.lower(), *optional}
        passed = [column for name, column in found.items() if name not in used]
        _check_passed(passed)
        return cls(source, optional, tuple(column.name for column in passed))

    @property
    def has_requests(self) -> bool:
        """Whether rows contain complete requests, not prompts."""
        return self.source.name.lower() == "request"


def _check_key(found: dict[str, TableColumn]) -> None:
    if KEY_FIELD not in found:
        raise InvalidParameterError(
            "sql", _selects(found), f"select a column {KEY_FIELD!r} that is unique in each row"
        )
    key = found[KEY_FIELD]
    if key.is_array or key.type not in ("STRING", "INTEGER", "INT64"):
        raise InvalidParameterError("sql", _of_type(key), "CAST the key to STRING or INT64")


def _check_type(column: TableColumn, types: tuple[str, ...], *, arrays: bool) -> None:
    if column.type not in types or (column.is_array and not arrays):
        allowed = " or ".join(types) + (", or an ARRAY of it" if arrays else "")
        raise InvalidParameterError("sql", _of_type(column), f"it must be {allowed}")


def _check_passed(columns: list[TableColumn]) -> None:
    for column in columns:
        name = column.name
        if name.lower() in OUTPUT_COLUMNS:
            raise InvalidParameterError(
                "sql",
                _selects([name]),
                f"batch output adds a column with this name; use another, such as 'input_{name}'",
            )
        if column.is_array or column.type in UNSUPPORTED_TYPES:
            raise InvalidParameterError(
                "sql",
                _of_type(column),
                f"batch jobs refuse this type; drop the column, or select TO_JSON_STRING({name}) AS {name}",
            )


def _selects(names: Iterable[str]) -> Described:
    return Described(f"selects {', '.join(sorted(names))}")


def _of_type(column: TableColumn) -> Described:
    kind = f"ARRAY<{column.type}>" if column.is_array else column.type
    return Described(f"selects {column.name} {kind}")
