"""The columns that a user's query gives: those of the request, those passed through, those that cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import OUTPUT_COLUMNS, UNSUPPORTED_TYPES
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.keys import KEY_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterable

_OPTIONAL = ("system_instruction", "media_uri", "media_mime_type")


@dataclass(frozen=True)
class TableColumn:
    """A column as BigQuery describes it.

    :param type: BigQuery's name, such as STRING or INTEGER
    """

    name: str
    type: str
    is_array: bool = False


@dataclass(frozen=True)
class RequestColumns:
    """The columns of a query, by what they are for.

    :param source: ``prompt`` or ``request``
    :param optional: ``system_instruction``, ``media_uri``, ``media_mime_type``, those that are there
    :param passed: names of the others
    """

    source: TableColumn
    optional: dict[str, TableColumn]
    passed: tuple[str, ...]

    @classmethod
    def of(cls, columns: Iterable[TableColumn]) -> RequestColumns:
        """Sort the columns of a query.

        :raises InvalidParameterError: a column that is missing, reserved or of a type that a job refuses
        """
        found = {column.name.lower(): column for column in columns}
        _check_key(found)
        sources = [found[name] for name in ("prompt", "request") if name in found]
        if len(sources) != 1:
            raise InvalidParameterError("sql", sorted(found), "it must give either 'prompt' or 'request'")
        source = sources[0]
        optional = {name: found[name] for name in _OPTIONAL if name in found}
        if source.name.lower() == "request":
            _check_type(source, ("JSON", "STRING"), arrays=False)
            if optional:
                raise InvalidParameterError("sql", sorted(optional), "a 'request' is whole; put them into it")
        else:
            for column in (source, *optional.values()):
                _check_type(column, ("STRING",), arrays=True)
        if "media_mime_type" in optional and "media_uri" not in optional:
            raise InvalidParameterError("sql", ["media_mime_type"], "it needs 'media_uri' beside it")
        used = {KEY_FIELD, source.name.lower(), *optional}
        passed = [column for name, column in found.items() if name not in used]
        _check_passed(passed)
        return cls(source, optional, tuple(column.name for column in passed))


def _check_key(found: dict[str, TableColumn]) -> None:
    if KEY_FIELD not in found:
        raise InvalidParameterError(
            "sql", sorted(found), f"it must give a column {KEY_FIELD!r}, which tells rows apart"
        )
    key = found[KEY_FIELD]
    if key.is_array or key.type not in ("STRING", "INTEGER", "INT64"):
        raise InvalidParameterError("sql", f"{KEY_FIELD} {_kind(key)}", "a key is STRING or INT64; CAST it")


def _check_type(column: TableColumn, types: tuple[str, ...], *, arrays: bool) -> None:
    if column.type not in types or (column.is_array and not arrays):
        allowed = " or ".join(types) + (", or an ARRAY of it" if arrays else "")
        raise InvalidParameterError("sql", f"{column.name} {_kind(column)}", f"it must be {allowed}")


def _check_passed(columns: list[TableColumn]) -> None:
    for column in columns:
        name = column.name
        if name.lower() in OUTPUT_COLUMNS:
            raise InvalidParameterError(
                "sql", name, f"the output has a column of that name; give it another, such as 'input_{name}'"
            )
        if column.is_array or column.type in UNSUPPORTED_TYPES:
            raise InvalidParameterError(
                "sql",
                f"{name} {_kind(column)}",
                f"batch jobs refuse columns of that type; leave it out, or TO_JSON_STRING({name}) AS {name}",
            )


def _kind(column: TableColumn) -> str:
    return f"ARRAY<{column.type}>" if column.is_array else column.type
