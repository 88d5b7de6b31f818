"""Prices of batch jobs: list prices at a place and on a date, or negotiated prices. Never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.models import Model, ModelName, find_model, search_facts
from airflow_gemini_batch.service import LONG_PROMPT_TOKENS

if TYPE_CHECKING:
    from datetime import datetime

_MILLION = 1_000_000
_PLACES = Decimal("0.000001")
_SEARCHES = ("search", "free_searches")
# Kinds of tokens that only speech and video models price separately.
_UNPRICED = ("output_audio_tokens", "output_video_tokens")


@dataclass(frozen=True)
class Prices:
    """Batch prices of one tier, in USD per million tokens.

    :param output: output tokens, thinking included
    :param cached: cached prompt tokens
    :param audio: audio prompt tokens
    :param cached_audio: cached audio prompt tokens
    :param image: prompt tokens of images and documents
    :param video: prompt tokens of videos, without their sound
    :param image_output: output tokens of images
    """

    input: Decimal
    output: Decimal
    cached: Decimal
    audio: Decimal
    cached_audio: Decimal
    image: Decimal
    video: Decimal
    image_output: Decimal


_HIGHEST = 1_000_000


@dataclass(frozen=True)
class BatchPrices:
    """The prices of a batch job.

    :param long: for requests with prompts longer than :data:`LONG_PROMPT_TOKENS`
    :param search: in USD per 1,000 search queries
    :param free_searches: how many search queries of the job cost nothing
    """

    short: Prices
    long: Prices
    search: Decimal
    free_searches: int = 0

    @classmethod
    def listed(cls, model: str, location: str, when: datetime) -> BatchPrices | None:
        """Return the list prices at a location, on a date.

        For most models batch costs half the list price, for input and for output including thinking. A cached
        token costs its list price, because the discounts do not add up. The location changes the price of
        tokens, not of searches.

        :param model: in any form of its name
        :return: ``None`` for a tuned model and for a model whose price is unknown
        """
        parsed = ModelName.parse(model)
        if parsed is None or not parsed.google_id:
            return None
        known = find_model(model)
        if known is None:
            return None  # Neither the share that batch costs nor what the location adds is known.
        try:
            below, at, above, far_above = (
                _of_batch(_listed(parsed.google_id, size, when), known, location)
                for size in (1_000, LONG_PROMPT_TOKENS, LONG_PROMPT_TOKENS + 1, 5 * LONG_PROMPT_TOKENS)
            )
        except LookupError:
            return None
        if below != at or above != far_above:
            return None  # This model's tiers begin at another length.
        return cls(below, above, search_facts().usd_per_1000_queries)


@dataclass(frozen=True)
class NegotiatedPrices:
    """Prices that a user gives instead of list prices. They hold at every location.

    :param short: batch prices of tokens; ``None`` for list prices
    :param long: for prompts longer than :data:`LONG_PROMPT_TOKENS`; ``None`` for list prices
    :param search: in USD per 1,000 search queries; ``None`` for the list price
    :param free_searches: how many search queries of a job cost nothing
    """

    short: Prices | None = None
    long: Prices | None = None
    search: Decimal | None = None
    free_searches: int = 0

    @classmethod
    def of(cls, value: NegotiatedPrices | Mapping[str, Any]) -> NegotiatedPrices:
        """Parse prices; those of tokens are batch prices in USD per million tokens.

        ``input`` and ``output`` go together: ``{"input": 0.12, "output": 1.0}``. With them, optional are
        ``cached``, ``audio``, ``image`` and ``video`` (default: ``input``), ``cached_audio`` (default:
        ``audio``), ``image_output`` (default: ``output``), and ``long``, a dict of the same keys for prompts
        of more than 200,000 tokens. ``search`` is in USD per 1,000 search queries, and ``free_searches`` is a
        number of queries; they may be given without prices of tokens.

        :raises InvalidParameterError: a price is missing, unknown or invalid
        """
        if isinstance(value, NegotiatedPrices):
            return value
        if not isinstance(value, Mapping):
            raise InvalidParameterError("prices", value, "give {'input': 0.12, 'output': 1.0}")
        search, free = (value.get(name) for name in _SEARCHES)
        found = cls(
            search=None if search is None else _price(search, "prices['search']", "1,000 search queries"),
            free_searches=0 if free is None else _number(free, "prices['free_searches']"),
        )
        tokens = {name: price for name, price in value.items() if name not in _SEARCHES}
        if not tokens and value:
            return found
        longer = tokens.pop("long", None)
        short = _given(tokens, "prices")
        long = short if longer is None else _given(longer, "prices['long']")
        return replace(found, short=short, long=long)

    def after(self, searches: int) -> NegotiatedPrices:
        """Return what holds when some free searches are used up."""
        return replace(self, free_searches=max(self.free_searches - searches, 0))


def prices_of(
    model: str, location: str, when: datetime, negotiated: NegotiatedPrices | None
) -> BatchPrices | None:
    """Return the negotiated prices, and the list price of what is not negotiated.

    :param location: of the job
    :return: ``None`` if the price of tokens is unknown
    """
    given = negotiated or NegotiatedPrices()
    search = search_facts().usd_per_1000_queries if given.search is None else given.search
    if given.short and given.long:
        return BatchPrices(given.short, given.long, search, given.free_searches)
    listed = BatchPrices.listed(model, location, when)
    return listed and replace(listed, search=search, free_searches=given.free_searches)


def _given(value: Any, parameter: str) -> Prices:
    names = [field.name for field in fields(Prices)]
    if not isinstance(value, Mapping):
        raise InvalidParameterError(parameter, value, "give a dict of prices")
    if unknown := sorted(set(value) - set(names)):
        keys = ", ".join((*names, "long", *_SEARCHES) if parameter == "prices" else names)
        raise InvalidParameterError(parameter, unknown, f"remove these; the keys are {keys}")
    found = {name: _price(price, f"{parameter}[{name!r}]") for name, price in value.items()}
    if missing := [name for name in ("input", "output") if name not in found]:
        raise InvalidParameterError(parameter, dict(value), f"{' and '.join(missing)} must be given")
    # Default to the more general price: an estimate that is too high is safer than one too low.
    default = dict.fromkeys(("cached", "audio", "image", "video"), found["input"])
    default["cached_audio"] = found.get("audio", found["input"])
    return Prices(**{**default, "image_output": found["output"], **found})


def _number(value: Any, parameter: str) -> int:
    try:
        number = int(str(value))  # A template renders text.
    except ValueError:
        number = -1
    if number < 0:
        raise InvalidParameterError(parameter, value, "give a number of search queries, 0 or more")
    return number


def _price(value: Any, parameter: str, unit: str = "million tokens") -> Decimal:
    try:
        price = Decimal(str(value))
        usable = price.is_finite() and 0 <= price <= _HIGHEST and not isinstance(value, bool)
    except InvalidOperation:
        usable = False
    if not usable:
        fix = f"give USD per {unit}, a number from 0 to {_HIGHEST:,}"
        raise InvalidParameterError(parameter, value, fix)
    return price.quantize(_PLACES)


def _listed(model: str, prompt_tokens: int, when: datetime) -> Prices:
    """Return the list prices, without the discount of batch, for prompts of one length.

    :raises LookupError: the model is unknown, or has a separate price for a kind of tokens that
        :class:`Prices` does not have
    """
    from genai_prices import Usage, calc_price

    def cost(**tokens: int) -> tuple[Decimal, Decimal]:
        found = calc_price(
            Usage(**tokens), model_ref=model, provider_id="google", genai_request_timestamp=when
        )
        return found.input_price, found.output_price

    def prompt(**tokens: int) -> Decimal:
        return cost(input_tokens=prompt_tokens, **tokens)[0] * _MILLION / prompt_tokens

    def output(**tokens: int) -> Decimal:
        return cost(input_tokens=prompt_tokens, output_tokens=_MILLION, **tokens)[1]

    everything = prompt_tokens
    plain, written = prompt(), output()
    for kind in _UNPRICED:
        if output(**{kind: _MILLION}) != written:
            raise LookupError(f"{model} has a separate price for {kind}")
    return Prices(
        input=plain,
        output=written,
        cached=prompt(cache_read_tokens=everything),
        audio=prompt(input_audio_tokens=everything),
        cached_audio=prompt(
            cache_read_tokens=everything,
            input_audio_tokens=everything,
            cache_audio_read_tokens=everything,
        ),
        image=prompt(input_image_tokens=everything),
        video=prompt(input_video_tokens=everything),
        image_output=output(output_image_tokens=_MILLION),
    )


def _of_batch(listed: Prices, model: Model, location: str) -> Prices:
    factor = model.price_factor(location)
    there = {each.name: getattr(listed, each.name) * factor for each in fields(Prices)}
    batch = Prices(**{name: price * model.batch_share for name, price in there.items()})
    # A model without a price for cached tokens bills them as other tokens.
    return replace(
        batch,
        cached=min(there["cached"], batch.input),
        cached_audio=min(there["cached_audio"], batch.audio),
    )
