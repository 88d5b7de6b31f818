"""What the log says of rows that did not succeed: how many, why, and where they are. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.results.row_status import FINISH_REASONS, RowStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_gemini_batch.results.report.facts import ErrorKind

NOTHING_SUCCEEDED = "No row succeeded, so there is nothing to use in the results table."

# What a log viewer shows without a line break.
_WIDTH = 110
_CONSTANT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}")


def warnings(counts: Mapping[RowStatus, int], errors: Sequence[ErrorKind], error_table: str) -> list[str]:
    """Return lines about the rows that did not succeed; none if there are none.

    They have codes, statuses and finish reasons, but no messages, which may quote prompts.

    :param counts: rows by status
    :param errors: the most frequent errors; empty if they are not known
    """
    rows = sum(counts.values())
    failed = rows - counts[RowStatus.SUCCEEDED]
    if not failed:
        return []
    start = f"{failed:,} of {counted(rows, 'row')} did not succeed: "
    return [start + _fitting(_by_kind(counts, errors), failed, _WIDTH - len(start)), f"Errors: {error_table}"]


def _by_kind(counts: Mapping[RowStatus, int], errors: Iterable[ErrorKind]) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in errors:
        found[_kind(each)] += each.rows
    others = (status for status in counts if status is not RowStatus.SUCCEEDED)
    return found or Counter({status.value: counts[status] for status in others if counts[status]})


def _kind(error: ErrorKind) -> str:
    if error.name in FINISH_REASONS[RowStatus.SUCCEEDED]:
        return "empty answer"
    # The name is from the output of the job, so it is shown only if it can be nothing but a name.
    name = error.name if error.name and _CONSTANT.fullmatch(error.name) else ""
    return f"{error.code or error.status} {name}".rstrip()


def _fitting(kinds: Counter[str], failed: int, width: int) -> str:
    """List as many kinds as fit, most frequent first, and how many rows are left."""
    shown: list[str] = []
    left = failed
    for kind, number in kinds.most_common():
        item = f"{number:,} × {kind}"
        if shown and len(", ".join([*shown, item, f"{left:,} × other"])) > width:
            break
        shown.append(item)
        left -= number
    return ", ".join([*shown, *([f"{left:,} × other"] if left > 0 else [])])
