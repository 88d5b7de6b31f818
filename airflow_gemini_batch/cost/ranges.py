"""Between how much and how much: of tokens, and of money."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

MICRO = Decimal("0.000001")
_LABEL = re.compile(r"(\d+)-(\d*)")


@dataclass(frozen=True)
class Span:
    """Between how much and how much.

    :param high: ``None`` when nothing limits it
    """

    low: int
    high: int | None

    def __str__(self) -> str:
        if self.high == self.low:
            return f"{self.low:,}"
        return f"{self.low:,} to {'no limit' if self.high is None else f'{self.high:,}'}"


@dataclass(frozen=True)
class CostSpan:
    """Between how many US dollars and how many.

    :param high: ``None`` when nothing limits it
    """

    low: Decimal
    high: Decimal | None

    def __str__(self) -> str:
        low = f"${_dollars(self.low, ROUND_FLOOR)}"
        if self.high is None:
            return f"at least {low}"
        high = f"${_dollars(self.high, ROUND_CEILING)}"
        return f"about {high}" if low == high else f"{low} to {high}"

    def to_label(self) -> str:
        """As a label of a job: millionths of a dollar, ``LOW-HIGH``, or ``LOW-`` when nothing limits it."""
        high = "" if self.high is None else int(self.high / MICRO)
        return f"{int(self.low / MICRO)}-{high}"

    @classmethod
    def from_label(cls, label: str | None) -> CostSpan | None:
        """Read what :meth:`to_label` has written; ``None`` for anything else."""
        match = _LABEL.fullmatch(label or "")
        if not match:
            return None
        low, high = match.groups()
        return cls(int(low) * MICRO, int(high) * MICRO if high else None)

    def to_dict(self) -> dict[str, float | None]:
        """As JSON has it."""
        return {"low": float(self.low), "high": None if self.high is None else float(self.high)}


def _dollars(value: Decimal, rounding: str) -> Decimal:
    return value.quantize(Decimal("0.01") if value >= 1 else Decimal("0.0001"), rounding)
