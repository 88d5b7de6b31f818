from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_gemini_batch.cost.prices import LONG_PROMPT_TOKENS, BatchPrices, NegotiatedPrices, prices_of
from airflow_gemini_batch.exceptions import InvalidParameterError

WHEN = datetime(2026, 11, 1, tzinfo=UTC)

# Batch list prices in USD per million tokens: input, output, and both for prompts beyond 200,000 tokens.
LIST = {
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


def listed(model: str, when: datetime = WHEN, location: str = "global") -> BatchPrices:
    prices = BatchPrices.listed(model, location, when)
    assert prices
    return prices


@pytest.mark.parametrize("model", LIST)
def test_list_prices(model: str) -> None:
    expected = [Decimal(price) for price in LIST[model]]
    prices = listed(model)
    assert [prices.short.input, prices.short.output] == expected[:2]
    assert [prices.long.input, prices.long.output] == expected[-2:]


def test_a_cached_token_costs_a_tenth_of_the_standard_price_not_of_the_batch_price() -> None:
    assert listed("gemini-2.5-flash").short.cached == Decimal("0.03")
    assert listed("gemini-2.5-pro").short.cached == Decimal("0.125")
    assert listed("gemini-2.5-pro").long.cached == Decimal("0.25")


def test_without_a_price_for_cached_tokens_they_cost_the_input_price() -> None:
    assert listed("gemini-2.0-flash-lite").short.cached == Decimal("0.0375")


def test_audio_and_images_have_their_own_prices() -> None:
    assert listed("gemini-2.5-flash").short.audio == Decimal("0.5")
    assert listed("gemini-2.5-flash").short.cached_audio == Decimal("0.1")
    assert listed("gemini-2.5-pro").short.audio == Decimal("0.625")
    assert listed("gemini-2.5-flash-image").short.image_output == Decimal(15)


def test_prices_depend_on_the_date() -> None:
    before, after = (datetime(year, 6, 1, tzinfo=UTC) for year in (2026, 2027))
    assert listed("gemini-3.8-flash", before).short.input == Decimal("0.375")
    assert listed("gemini-3.8-flash", after).short.input == Decimal("0.75")


@pytest.mark.parametrize(
    "model",
    [
        "gemini-9-ultra",
        "projects/1/locations/us-central1/models/42",
        "",
        "publishers/meta/models/llama",
        # Only the preview is listed, and prices may change: 2.5 Flash output costs four times its preview's.
        "gemini-3-flash",
        "gemini-3.1-pro",
        # It has a separate price for speech as output, which Prices does not have.
        "gemini-3.8-live",
    ],
)
def test_an_unknown_price_is_not_guessed(model: str) -> None:
    assert BatchPrices.listed(model, "global", WHEN) is None


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash@default"])
def test_ways_to_name_a_model(model: str) -> None:
    assert listed(model).short.input == Decimal("0.15")


def test_the_higher_tier_begins_above_200_000_tokens() -> None:
    assert LONG_PROMPT_TOKENS == 200_000


class TestNegotiated:
    def test_missing_prices_default_to_the_more_general_one(self) -> None:
        prices = NegotiatedPrices.of({"input": 0.12, "output": "1", "audio": 0.4})
        assert prices.short
        short = prices.short
        assert (short.input, short.cached) == (Decimal("0.12"), Decimal("0.12"))
        assert (short.audio, short.cached_audio) == (Decimal("0.4"), Decimal("0.4"))
        assert (short.output, short.image_output) == (Decimal(1), Decimal(1))
        assert prices.long == short

    def test_long_prompts_may_have_other_prices(self) -> None:
        prices = NegotiatedPrices.of({"input": 1, "output": 2, "long": {"input": 3, "output": 4}})
        assert prices.short
        assert prices.long
        assert (prices.short.input, prices.long.input) == (Decimal(1), Decimal(3))

    def test_without_negotiated_prices_list_prices_apply(self) -> None:
        assert prices_of("gemini-2.5-pro", "global", WHEN, None) == listed("gemini-2.5-pro")

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            (3, r"prices=3: give \{'input'"),
            ({"input": 1}, "output must be given"),
            ({"input": 1, "output": -1}, r"prices\['output'\]=-1: give USD per million tokens"),
            ({"input": "cheap", "output": 1}, r"prices\['input'\]='cheap'"),
            ({"input": True, "output": 1}, r"prices\['input'\]=True"),
            ({"input": float("nan"), "output": 1}, r"prices\['input'\]=nan"),
            (
                {"input": 1, "output": 1, "tokens": 1},
                r"prices=\['tokens'\]: remove these; the keys are input, output",
            ),
            ({"input": 1, "output": 1, "long": 2}, r"prices\['long'\]=2: give a dict"),
            ({"input": 1, "output": 1, "long": {"input": 2}}, r"prices\['long'\]=.*output must be given"),
        ],
    )
    def test_an_invalid_price_is_refused(self, value: Any, complaint: str) -> None:
        with pytest.raises(InvalidParameterError, match=complaint):
            NegotiatedPrices.of(value)
