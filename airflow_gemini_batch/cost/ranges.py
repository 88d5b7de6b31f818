"""Ranges of tokens and of US dollars."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from airflow_gemini_batch.formats import dollars

MICRO = Decimal("0.000001")
_LABEL = re.compile(r"(\d+)-(\d*)")


@dataclass(frozen=True)
class Span:
    """A range of tokens, or of search queries.

    :param high: ``None`` for no upper bound
    """

    low: int
    high: int | None

    def of(self, thing: str, things: str) -> str:
        """Format it with the name of what is counted, in the singular and in the plural."""
        if self.high is None:
            return f"{self.low:,} or more {things}, no upper limit" if self.low else "no upper limit"
        low = f"{self.low:,} to " if self.low else "up to "
        return f"{low if self.low != self.high else ''}{self.high:,} {thing if self.high == 1 else things}"


@dataclass(frozen=True)
class CostSpan:
    """A range of US dollars.

    :param high: ``None`` for no upper bound
    """

    low: Decimal
    high: Decimal | None

    def __str__(self) -> str:
        low = dollars(self.low, ROUND_FLOOR)
        if self.high is None:
            return f"at least {low}" if self.low else "no upper limit"
        high = dollars(self.high, ROUND_CEILING)
        return f"about {high}" if low == high else f"{low} to {high}"

    def plus(self, other: CostSpan) -> CostSpan:
        """Add another range."""
        high = None if self.high is None or other.high is None else self.high + other.high
        return CostSpan(self.low + other.low, high)

    def to_label(self) -> str:
        """Format as a job label in millionths of a dollar: ``LOW-HIGH``, or ``LOW-`` without upper bound."""
        high = "" if self.high is None else int(self.high / MICRO)
        return f"{int(self.low / MICRO)}-{high}"

    @classmethod
    def from_label(cls, label: str | None) -> CostSpan | None:
        """Parse the output of :meth:`to_label`; ``None`` for any other text."""
        match = _LABEL.fullmatch(label or "")
        if not match:
            return None
        low, high = match.groups()
        return cls(int(low) * MICRO, int(high) * MICRO if high else None)

    def to_dict(self) -> dict[str, float | None]:
        """Return it as JSON-serializable values."""
        return {"low": float(self.low), "high": None if self.high is None else float(self.high)}
