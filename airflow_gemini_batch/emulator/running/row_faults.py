"""Applies faults to rows and lines of the output. Pure."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.faults.plan import RowFaultKind
from airflow_gemini_batch.emulator.running.rows import BAD_REQUEST, TOO_MANY_REQUESTS, coerced, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_gemini_batch.emulator.running.rows import OutputRow

_SERVICE_MEMBERS = ("request", "status", "response", "processed_time")
_HUGE = "123456789012345678901234567890123456789012345678901234567890"
_LONG = "0.1234567890123456789012345678901234567890123456789e308"


def order(hit: Sequence[int], rows: int, seed: str) -> list[int]:
    """Return the order in which rows are written when the rows at the positions ``hit`` are permuted."""
    places = list(range(rows))
    moved = list(hit)
    random.Random(f"{seed}/order").shuffle(moved)  # noqa: S311
    for place, row in zip(sorted(hit), moved, strict=True):
        places[place] = row
    return places


def disturbed_answer(output: OutputRow, kinds: Sequence[RowFaultKind]) -> OutputRow:
    """Return the row as failed if the faults say that the model refuses it or is out of quota."""
    if RowFaultKind.REFUSED in kinds:
        return failed(output, *BAD_REQUEST, "The request was refused by a fault plan.")
    if RowFaultKind.EXHAUSTED in kinds:
        return failed(output, *TOO_MANY_REQUESTS, "Resource exhausted. Please try again later.")
    return output


def disturbed_lines(
    line: bytes, kinds: Sequence[RowFaultKind], seed: str, *, in_table: bool = False
) -> bytes:
    """Return what is written instead of a line: zero, one or two lines, each with its line end.

    :param in_table: whether the line is loaded into a table, where it must stay valid JSON
    """
    if RowFaultKind.DROPPED in kinds:
        return b""
    if not in_table:
        line = _mutated(line, kinds, random.Random(seed))  # noqa: S311
    return line * (2 if RowFaultKind.DOUBLED in kinds else 1)


def _mutated(line: bytes, kinds: Sequence[RowFaultKind], chance: random.Random) -> bytes:
    for kind, mutate in _OF_MEMBERS.items():
        if kind in kinds:
            line = mutate(line)
    for kind, damage in _OF_BYTES.items():
        if kind in kinds:
            line = damage(line, chance)
    return line


def _without_keys(line: bytes) -> bytes:
    return _line({name: value for name, value in json.loads(line).items() if name in _SERVICE_MEMBERS})


def _with_number_keys(line: bytes) -> bytes:
    return _line(
        {
            name: value if name in _SERVICE_MEMBERS else coerced(value)
            for name, value in json.loads(line).items()
        }
    )


def _with_extra_members(line: bytes) -> bytes:
    members = json.loads(line)
    unknown = {"newMember": {"nested": [1, None, {"deep": True}]}, "": "empty name", "\u2028": "\u0085"}
    if isinstance(members.get("response"), dict):
        members["response"] = {**unknown, **members["response"], "trailing": [[]]}
    return _line({**unknown, **members})


def _with_huge_numbers(line: bytes) -> bytes:
    # Written as text because a Python float cannot represent them.
    return b'{"hugeInteger":%s,"longFraction":%s,%s' % (_HUGE.encode(), _LONG.encode(), line[1:])


def _truncated(line: bytes, chance: random.Random) -> bytes:
    return line[: chance.randrange(1, max(len(line) - 2, 2))] + b"\n"


def _corrupt(line: bytes, chance: random.Random) -> bytes:
    # Never before the first brace: what remains must not be blank.
    at = chance.randrange(1, max(len(line) - 1, 2))
    return line[:at] + b"\x00\x02}{\\" + line[at:]


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


_OF_MEMBERS = {
    RowFaultKind.NUMBER_KEYS: _with_number_keys,
    RowFaultKind.NO_KEYS: _without_keys,
    RowFaultKind.EXTRA_MEMBERS: _with_extra_members,
    RowFaultKind.HUGE_NUMBERS: _with_huge_numbers,
}
_OF_BYTES = {RowFaultKind.TRUNCATED: _truncated, RowFaultKind.CORRUPT: _corrupt}
