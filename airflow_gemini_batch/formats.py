"""How numbers, lengths of time and amounts of money are written in logs, reports and on the command line."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


def duration(length: timedelta, units: int = 2) -> str:
    """Format a length of time in its largest units: ``1 d 2 h``; with three, ``1 d 2 h 3 min``."""
    left = max(length.total_seconds(), 0.0)
    if left < 10:
        return f"{left:.1f}".removesuffix(".0") + " s"
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts.append((int(count), unit))
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + units] if count)


def counted(number: int, noun: str) -> str:
    """Format how many there are of something: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def dollars(amount: Decimal | float, rounding: str = ROUND_HALF_UP) -> str:
    """Format US dollars: ``$1,234.50``, ``$0.0157``, and two significant digits below ``$0.0001``."""
    exact = Decimal(str(amount))
    if not exact:
        return "$0"
    places = 2 if exact >= 1 else 4 if exact >= Decimal("0.0001") else 1 - exact.adjusted()
    return f"${exact.quantize(Decimal(1).scaleb(-places), rounding):,f}"
