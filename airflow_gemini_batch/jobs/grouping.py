"""Which files of requests go into which job: as few jobs as their order allows, and even ones."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.formats import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

# Groups are made even in steps of a thousandth of the limits.
_STEPS = 1000
_SHOWN = 5


@dataclass(frozen=True)
class InputFile:
    """A file of requests.

    :param rows: number of its lines, or an upper bound
    :param size: in bytes
    """

    uri: str
    rows: int
    size: int


@dataclass(frozen=True)
class GroupLimits:
    """What one job takes.

    :param rows: number of requests
    :param size: of all its files, in bytes
    :param files: number of files; ``None`` for any number
    """

    rows: int
    size: int
    files: int | None = None


def group_files(files: Sequence[InputFile], limits: GroupLimits) -> list[list[InputFile]]:
    """Distribute files over as few jobs as possible, without changing their order.

    Depends on nothing but the files, so the same files make the same groups.

    :raises InvalidParameterError: a file alone is beyond the limits of a job
    """
    _check_each(files, limits)
    fewest = len(_filled(files, limits, _STEPS))
    # The smallest share of the limits that needs no more jobs makes the groups even.
    share = bisect_left(range(1, _STEPS), -fewest, key=lambda step: -len(_filled(files, limits, step))) + 1
    return _filled(files, limits, share)


def _filled(files: Sequence[InputFile], limits: GroupLimits, share: int) -> list[list[InputFile]]:
    """Fill one group after the other, up to a share of the limits. A larger file has a group of its own."""
    groups: list[list[InputFile]] = []
    rows = size = 0
    for each in files:
        rows, size = rows + each.rows, size + each.size
        is_within = (
            rows * _STEPS <= limits.rows * share
            and size * _STEPS <= limits.size * share
            and (limits.files is None or (groups and len(groups[-1]) * _STEPS < limits.files * share))
        )
        if groups and is_within:
            groups[-1].append(each)
        else:
            groups.append([each])
            rows, size = each.rows, each.size
    return groups


def _check_each(files: Sequence[InputFile], limits: GroupLimits) -> None:
    large = [each for each in files if each.rows > limits.rows or each.size > limits.size]
    if not large:
        return
    shown = ", ".join(
        f"{each.uri} ({counted(each.rows, 'request')}, {each.size:,} bytes)" for each in large[:_SHOWN]
    )
    more = f" and {len(large) - _SHOWN:,} more" if len(large) > _SHOWN else ""
    raise InvalidParameterError(
        "input_uri",
        large[0].uri,
        f"a job takes {counted(limits.rows, 'request')} and {limits.size:,} bytes, and a file is not divided "
        f"between jobs. Split it, for example with `split --lines=100000`. Too large: {shown}{more}",
    )
