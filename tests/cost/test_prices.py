from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_gemini_batch.cost.prices import LONG_PROMPT_TOKENS, BatchPrices, prices_of
from airflow_gemini_batch.exceptions import InvalidParameterError

WHEN = datetime(2026, 11, 1, tzinfo=UTC)

# The price list of batch, USD per million tokens of input and of output; and beyond 200,000 tokens of prompt.
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


def listed(model: str, when: datetime = WHEN) -> BatchPrices:
    prices = BatchPrices.listed(model, when)
    assert prices
    return prices


@pytest.mark.parametrize("model", LIST)
def test_prices_are_those_of_the_list(model: str) -> None:
    expected = [Decimal(price) for price in LIST[model]]
    prices = listed(model)
    assert [prices.short.input, prices.short.output] == expected[:2]
    assert [prices.long.input, prices.long.output] == expected[-2:]


def test_a_cached_token_costs_a_tenth_of_the_standard_price_and_not_of_the_batch_price() -> None:
    assert listed("gemini-2.5-flash").short.cached == Decimal("0.03")
    assert listed("gemini-2.5-pro").short.cached == Decimal("0.125")
    assert listed("gemini-2.5-pro").long.cached == Decimal("0.25")


def test_a_model_without_a_price_for_cached_tokens_has_them_at_the_price_of_others() -> None:
    assert listed("gemini-2.0-flash-lite").short.cached == Decimal("0.0375")


def test_sound_and_pictures_have_prices_of_their_own() -> None:
    assert listed("gemini-2.5-flash").short.audio == Decimal("0.5")
    assert listed("gemini-2.5-flash").short.cached_audio == Decimal("0.1")
    assert listed("gemini-2.5-pro").short.audio == Decimal("0.625")
    assert listed("gemini-2.5-flash-image").short.image_output == Decimal(15)


def test_a_price_is_that_of_the_day() -> None:
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
        # Known is the preview only; the answers of 2.5 Flash cost four times those of its preview.
        "gemini-3-flash",
        "gemini-3.1-pro",
        # It has a price for pictures and one for films, which we do not tell apart.
        "gemini-embedding-2",
    ],
)
def test_an_unknown_price_is_no_guess(model: str) -> None:
    assert BatchPrices.listed(model, WHEN) is None


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash@default"])
def test_ways_to_name_a_model(model: str) -> None:
    assert listed(model).short.input == Decimal("0.15")


def test_the_limit_is_where_the_tier_begins() -> None:
    assert LONG_PROMPT_TOKENS == 200_000


class TestNegotiated:
    def test_what_has_no_price_of_its_own_costs_what_its_kind_costs(self) -> None:
        prices = prices_of("tuned", WHEN, {"input": 0.12, "output": "1", "audio": 0.4})
        assert prices
        short = prices.short
        assert (short.input, short.cached) == (Decimal("0.12"), Decimal("0.12"))
        assert (short.audio, short.cached_audio) == (Decimal("0.4"), Decimal("0.4"))
        assert (short.output, short.image_output) == (Decimal(1), Decimal(1))
        assert prices.long == short

    def test_long_prompts_may_cost_more(self) -> None:
        prices = BatchPrices.of({"input": 1, "output": 2, "long": {"input": 3, "output": 4}})
        assert (prices.short.input, prices.long.input) == (Decimal(1), Decimal(3))

    def test_without_them_the_list_holds(self) -> None:
        assert prices_of("gemini-2.5-pro", WHEN, None) == listed("gemini-2.5-pro")

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            (3, r"prices=3: give \{'input'"),
            ({"input": 1}, "output must be given"),
            ({"input": 1, "output": -1}, r"prices\['output'\]=-1: give USD per million tokens"),
            ({"input": "cheap", "output": 1}, r"prices\['input'\]='cheap'"),
            ({"input": True, "output": 1}, r"prices\['input'\]=True"),
            ({"input": float("nan"), "output": 1}, r"prices\['input'\]=nan"),
            ({"input": 1, "output": 1, "tokens": 1}, r"prices=\['tokens'\]: there are input, output"),
            ({"input": 1, "output": 1, "long": 2}, r"prices\['long'\]=2: give a dict"),
            ({"input": 1, "output": 1, "long": {"input": 2}}, r"prices\['long'\]=.*output must be given"),
        ],
    )
    def test_what_is_no_price_is_refused(self, value: Any, complaint: str) -> None:
        with pytest.raises(InvalidParameterError, match=complaint):
            BatchPrices.of(value)
