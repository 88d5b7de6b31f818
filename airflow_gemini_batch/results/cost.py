"""What the tokens of a batch job cost, estimated from dated list prices. Never a guess."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_gemini_batch.prices import BatchPrices

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_gemini_batch.prices import Prices


@dataclass(frozen=True)
class Tokens:
    """Tokens by kind. The prompt includes what was cached; the output is without the thoughts."""

    prompt: int = 0
    cached: int = 0
    output: int = 0
    thought: int = 0
    total: int = 0


def cost_usd(model: str, tokens: Tokens, long: Tokens, when: datetime) -> Decimal | None:
    """Estimate what a batch cost.

    :param model: as the job names it
    :param tokens: those of all rows
    :param long: those among them of rows with a long prompt
    :param when: the day whose prices hold
    :return: ``None`` for a tuned model, and for one whose price is not known
    """
    prices = BatchPrices.listed(model, when)
    if prices is None:
        return None
    short = Tokens(
        **{
            kind: getattr(tokens, kind) - getattr(long, kind)
            for kind in ("prompt", "cached", "output", "thought")
        }
    )
    return (_cost(short, prices.short) + _cost(long, prices.long)).quantize(Decimal("0.000001"))


def _cost(tokens: Tokens, prices: Prices) -> Decimal:
    uncached = (tokens.prompt - tokens.cached) * prices.input
    return (uncached + (tokens.output + tokens.thought) * prices.output + tokens.cached * prices.cached) / (
        1_000_000
    )
