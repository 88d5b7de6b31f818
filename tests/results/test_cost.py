from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

import pytest

from airflow_gemini_batch.results.cost import LONG_PROMPT_TOKENS, Tokens, cost_usd

WHEN = datetime(2026, 11, 1, tzinfo=timezone.utc)
MILLION = 1_000_000
NONE = Tokens()

# The price list of batch, USD per million tokens of input and of output; and beyond 200,000 tokens of prompt.
PRICES = {
    "gemini-2.5-flash-lite": (".05", ".20"),
    "gemini-2.5-flash": (".15", "1.25"),
    "gemini-2.5-pro": (".625", "5", "1.25", "7.5"),
    "gemini-3-flash-preview": (".25", "1.5"),
    "gemini-3.1-flash-lite": (".125", ".75"),
    "gemini-3.1-pro-preview": ("1", "6", "2", "9"),
    "gemini-3.5-flash": (".75", "4.5"),
    "gemini-2.0-flash": (".05", ".20"),
    "gemini-2.0-flash-lite": (".0375", ".15"),
}


@pytest.mark.parametrize("model", PRICES)
def test_prices_are_those_of_the_list(model: str) -> None:
    prices = [Decimal(price) for price in PRICES[model]]
    given, made = Tokens(prompt=MILLION), Tokens(output=MILLION)
    found = [cost_usd(model, given, NONE, WHEN), cost_usd(model, made, NONE, WHEN)]
    if len(prices) > 2:
        found += [cost_usd(model, given, given, WHEN), cost_usd(model, made, made, WHEN)]
    assert found == prices


def test_cached_tokens_cost_a_tenth_of_the_standard_price_and_not_of_the_batch_price() -> None:
    cached = Tokens(prompt=MILLION, cached=MILLION)
    assert cost_usd("gemini-2.5-flash", cached, NONE, WHEN) == Decimal("0.03")
    assert cost_usd("gemini-2.5-pro", cached, NONE, WHEN) == Decimal("0.125")


def test_a_model_without_a_price_for_cached_tokens_has_them_at_the_price_of_others() -> None:
    cached = Tokens(prompt=MILLION, cached=MILLION)
    assert cost_usd("gemini-2.0-flash-lite", cached, NONE, WHEN) == Decimal("0.0375")


def test_a_whole_job_by_hand() -> None:
    """2.5 Pro: short prompts at 0.625 and 5, long ones at 1.25 and 7.5, cached at 0.125 and 0.25."""
    tokens = Tokens(prompt=3_000_000, cached=600_000, output=200_000, thought=100_000, total=3_300_000)
    long = Tokens(prompt=1_000_000, cached=200_000, output=50_000, thought=10_000, total=1_060_000)
    below = Decimal("1.6") * Decimal(".625") + Decimal(".4") * Decimal(".125") + Decimal(".24") * 5
    beyond = (
        Decimal(".8") * Decimal("1.25") + Decimal(".2") * Decimal(".25") + Decimal(".06") * Decimal("7.5")
    )
    assert cost_usd("publishers/google/models/gemini-2.5-pro", tokens, long, WHEN) == below + beyond


@pytest.mark.parametrize(
    "model",
    ["gemini-9-ultra", "projects/1/locations/us-central1/models/42", "", "publishers/meta/models/llama"],
)
def test_an_unknown_price_is_no_guess(model: str) -> None:
    assert cost_usd(model, Tokens(prompt=MILLION), NONE, WHEN) is None


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash@default"])
def test_ways_to_name_a_model(model: str) -> None:
    assert cost_usd(model, Tokens(prompt=MILLION), NONE, WHEN) == Decimal("0.15")


def test_the_limit_is_where_the_tier_begins() -> None:
    assert LONG_PROMPT_TOKENS == 200_000
