"""Reads the values of a REST resource. One of an unexpected type counts as absent, and hides no other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_INT64_DIGITS = 19


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object; ``{}`` for anything else."""
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str:
    """Return a string; ``""`` for anything else."""
    return value if isinstance(value, str) else ""


def as_texts(value: object) -> tuple[str, ...]:
    """Return the strings of a list, or a single string; ``()`` for anything else."""
    values = value if isinstance(value, list) else [value]
    return tuple(each for each in values if isinstance(each, str) and each)


def as_count(value: object) -> int | None:
    """Return a number that is not negative, sent as int64 is: in a string, or as a JSON number."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _INT64_DIGITS:
        return int(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value < 10**_INT64_DIGITS and value == int(value):  # type: ignore[operator, call-overload]
        return int(value)  # type: ignore[call-overload, no-any-return]
    return None


def as_time(value: object) -> datetime | None:
    """Return a time; one without an offset is in UTC."""
    try:
        time = datetime.fromisoformat(as_text(value))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
