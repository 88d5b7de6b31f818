"""What the tokens of a batch job cost, estimated from dated list prices. Never a guess."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

LONG_PROMPT_TOKENS = 200_000
"""A request with a prompt beyond it is priced by the higher tier, where the model has one."""

_PUBLISHER_MODEL = re.compile(r"(?:.*/)?publishers/google/models/([^/@]+)(?:@.*)?|([^/@]+)(?:@.*)?")
_BATCH_SHARE = Decimal("0.5")
_STEP = 1_000_000


@dataclass(frozen=True)
class Tokens:
    """Tokens by kind. The prompt includes what was cached; the output is without the thoughts."""

    prompt: int = 0
    cached: int = 0
    output: int = 0
    thought: int = 0
    total: int = 0


@dataclass(frozen=True)
class Rates:
    """List price in USD of one token, outside of batch."""

    prompt: Decimal
    cached: Decimal
    output: Decimal


def cost_usd(model: str, tokens: Tokens, long: Tokens, when: datetime) -> Decimal | None:
    """Estimate what a batch cost.

    Batch is half of the list price, for input and for output, thoughts among them. A cached token costs its
    list price: the two discounts do not stack.

    :param model: as the job names it
    :param tokens: those of all rows
    :param long: those among them of rows with a prompt beyond :data:`LONG_PROMPT_TOKENS`
    :param when: the day whose prices hold
    :return: ``None`` for a tuned model, and for one whose price is not known
    """
    rates = _rates(model, when)
    if rates is None:
        return None
    below, beyond = rates
    short = Tokens(
        **{
            kind: getattr(tokens, kind) - getattr(long, kind)
            for kind in ("prompt", "cached", "output", "thought")
        }
    )
    return (_cost(short, below) + _cost(long, beyond)).quantize(Decimal("0.000001"))


def _cost(tokens: Tokens, rates: Rates) -> Decimal:
    uncached = (tokens.prompt - tokens.cached) * rates.prompt
    output = (tokens.output + tokens.thought) * rates.output
    # A model without a price for cached tokens has them at the price of others.
    cached = tokens.cached * min(rates.cached, rates.prompt * _BATCH_SHARE)
    return (uncached + output) * _BATCH_SHARE + cached


def _rates(model: str, when: datetime) -> tuple[Rates, Rates] | None:
    """Rates below and beyond the limit of a long prompt."""
    match = _PUBLISHER_MODEL.fullmatch(model)
    if not match:
        return None
    name = match.group(1) or match.group(2)
    try:
        rates = [_rates_at(name, size, when) for size in (1_000, LONG_PROMPT_TOKENS)]
        beyond = [_rates_at(name, size, when) for size in (LONG_PROMPT_TOKENS + 1, 5 * LONG_PROMPT_TOKENS)]
    except LookupError:
        return None
    if rates[0] != rates[1] or beyond[0] != beyond[1]:
        return None  # The tiers of this model begin elsewhere.
    return rates[0], beyond[0]


def _rates_at(model: str, prompt_tokens: int, when: datetime) -> Rates:
    """:raises LookupError: when the model is not known."""
    from genai_prices import Usage, calc_price

    def price(**tokens: int) -> tuple[Decimal, Decimal]:
        found = calc_price(
            Usage(**tokens), model_ref=model, provider_id="google", genai_request_timestamp=when
        )
        return found.input_price, found.output_price

    plain, _ = price(input_tokens=prompt_tokens)
    cached, _ = price(input_tokens=prompt_tokens, cache_read_tokens=prompt_tokens)
    _, output = price(input_tokens=prompt_tokens, output_tokens=_STEP)
    return Rates(plain / prompt_tokens, cached / prompt_tokens, output / _STEP)
