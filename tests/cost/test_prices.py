from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_gemini_batch.cost.prices import BatchPrices, NegotiatedPrices, prices_of
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.service import LONG_PROMPT_TOKENS

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


@pytest.mark.parametrize(("location", "factor"), [("global", "1"), ("eu", "1.1"), ("us", "1.1")])
def test_prices_depend_on_the_location(location: str, factor: str) -> None:
    """3.5 Flash: 1.50, 9.00, and 0.15 for cached tokens, the first two by half."""
    short = listed("gemini-3.5-flash", location=location).short
    found = (short.input, short.output, short.cached, short.audio, short.image)
    prices = ("0.75", "4.5", "0.15", "0.75", "0.75")
    assert found == tuple(Decimal(price) * Decimal(factor) for price in prices)


def test_older_models_cost_the_same_everywhere() -> None:
    assert listed("gemini-2.5-pro", location="europe-west1") == listed("gemini-2.5-pro")


def test_embedding_models() -> None:
    """The first has 20 percent off in batch, the second half; its prices depend on the modality."""
    first = listed("gemini-embedding-001", location="us-central1").short
    assert (first.input, first.image, first.output) == (Decimal("0.12"), Decimal("0.12"), 0)
    second = listed("gemini-embedding-2", location="eu").short
    assert (second.input, second.output) == (Decimal("0.1"), 0)
    assert (second.image, second.audio, second.video) == (Decimal("0.225"), Decimal("3.25"), Decimal(6))


def test_searches_cost_the_same_everywhere() -> None:
    assert listed("gemini-3.5-flash", location="eu").search == 14
    assert listed("gemini-3.5-flash").free_searches == 0


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
        assert (short.image, short.video) == (Decimal("0.12"), Decimal("0.12"))
        assert (short.output, short.image_output) == (Decimal(1), Decimal(1))
        assert prices.long == short

    def test_long_prompts_may_have_other_prices(self) -> None:
        prices = NegotiatedPrices.of({"input": 1, "output": 2, "long": {"input": 3, "output": 4}})
        assert prices.short
        assert prices.long
        assert (prices.short.input, prices.long.input) == (Decimal(1), Decimal(3))

    def test_without_negotiated_prices_list_prices_apply(self) -> None:
        assert prices_of("gemini-2.5-pro", "global", WHEN, None) == listed("gemini-2.5-pro")

    def test_negotiated_prices_hold_at_every_location(self) -> None:
        given = NegotiatedPrices.of({"input": 1, "output": 2, "image": 3, "video": 4})
        prices = prices_of("gemini-3.5-flash", "eu", WHEN, given)
        assert prices
        short = prices.short
        assert (short.input, short.output, short.image, short.video) == (1, 2, 3, 4)
        assert (prices.search, prices.free_searches) == (14, 0)

    @pytest.mark.parametrize(
        ("given", "search", "free"),
        [
            ({"search": 35}, 35, 0),
            ({"free_searches": "5000"}, 14, 5_000),
            ({"search": "13.5", "free_searches": 7}, Decimal("13.5"), 7),
            ({"search": None, "free_searches": 7}, 14, 7),
        ],
    )
    def test_searches_alone_leave_list_prices_of_tokens(self, given: Any, search: Decimal, free: int) -> None:
        prices = prices_of("gemini-3.5-flash", "eu", WHEN, NegotiatedPrices.of(given))
        assert prices
        assert (prices.search, prices.free_searches) == (search, free)
        assert prices.short == listed("gemini-3.5-flash", location="eu").short
        assert prices_of("gemini-9-ultra", "eu", WHEN, NegotiatedPrices.of(given)) is None

    def test_free_searches_are_used_up(self) -> None:
        given = NegotiatedPrices.of({"free_searches": 5})
        assert [given.after(used).free_searches for used in (0, 3, 9)] == [5, 2, 0]

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
                r"prices=\['tokens'\]: remove these; the keys are input, output, .*, free_searches",
            ),
            ({}, "input and output must be given"),
            ({"search": 14, "cached": 1}, "input and output must be given"),
            ({"search": 14, "long": {"input": 1, "output": 1}}, "input and output must be given"),
            ({"search": -1}, r"prices\['search'\]=-1: give USD per 1,000 search queries"),
            (
                {"free_searches": -1},
                r"prices\['free_searches'\]=-1: give a number of search queries, 0 or more",
            ),
            ({"free_searches": 1.5}, "give a number of search queries"),
            ({"free_searches": True}, "give a number of search queries"),
            (
                {"input": 1, "output": 1, "long": {"input": 1, "output": 1, "search": 1}},
                r"prices\['long'\]=\['search'\]: remove these; .*image_output$",
            ),
            ({"input": 1, "output": 1, "long": 2}, r"prices\['long'\]=2: give a dict"),
            ({"input": 1, "output": 1, "long": {"input": 2}}, r"prices\['long'\]=.*output must be given"),
        ],
    )
    def test_an_invalid_price_is_refused(self, value: Any, complaint: str) -> None:
        with pytest.raises(InvalidParameterError, match=complaint):
            NegotiatedPrices.of(value)
