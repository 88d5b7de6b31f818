"""Histograms of tokens per row, with round edges. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.formats import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLUMNS = 30
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Column:
    """Rows with at least ``low`` and less than ``high`` tokens; without a limit if ``high`` is ``None``."""

    low: int
    high: int | None
    rows: int

    @property
    def label(self) -> str:
        """The range, and the number of rows in it."""
        limits = f"{self.low:,} and more" if self.high is None else f"{self.low:,} to {self.high - 1:,}"
        return (
            f"{limits if self.high != self.low + 1 else f'{self.low:,}'} tokens: {counted(self.rows, 'row')}"
        )


@dataclass(frozen=True)
class Histogram:
    """Columns of equal width, and quantiles.

    :param median: tokens, rounded to three digits, like ``p95`` and ``most``
    """

    columns: tuple[Column, ...]
    median: int
    p95: int
    most: int

    @property
    def tallest(self) -> int:
        """Number of rows of the tallest column."""
        return max(column.rows for column in self.columns)


def histogram(counts: Mapping[int, int]) -> Histogram | None:
    """Group rows into columns of a round width. The longest 1% share the last one.

    :param counts: rows by number of tokens, rounded to three digits
    :return: ``None`` if there are no rows
    """
    ordered = sorted((tokens, rows) for tokens, rows in counts.items() if rows)
    if not ordered:
        return None
    low, high = ordered[0][0], quantile(ordered, 0.99)
    width = _width(low, high)
    first = low // width
    length = high // width - first + 1
    heights = [0] * length
    beyond = 0
    for tokens, rows in ordered:
        place = tokens // width - first
        if place < length:
            heights[place] += rows
        else:
            beyond += rows
    columns = [
        Column((first + place) * width, (first + place + 1) * width, rows)
        for place, rows in enumerate(heights)
    ]
    if beyond:
        columns.append(Column((first + length) * width, None, beyond))
    return Histogram(tuple(columns), quantile(ordered, 0.5), quantile(ordered, 0.95), ordered[-1][0])


def quantile(ordered: list[tuple[int, int]], part: float) -> int:
    """Return the smallest number of tokens that a share ``part`` of the rows does not exceed."""
    needed = part * sum(rows for _, rows in ordered)
    seen = 0
    for tokens, rows in ordered:
        seen += rows
        if seen >= needed:
            return tokens
    return ordered[-1][0]


def short(number: int) -> str:
    """Format a number for an axis: 950, 1.2k, 35k, 1.5M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size:
            value = number / size
            return f"{value:.0f}{unit}" if value >= 10 or number % size == 0 else f"{value:.1f}{unit}"
    return str(number)


def _width(low: int, high: int) -> int:
    """Return the smallest round width with at most :data:`_COLUMNS` columns, no finer than three digits."""
    least = max((high - low) / _COLUMNS, 10 ** max(len(str(high)) - 3, 0))
    scale = 1
    while True:
        for step in _STEPS:
            if step * scale >= least:
                return step * scale
        scale *= 10
