"""Prices of tokens in batch jobs: list prices on a date, or negotiated prices. Never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.models import ModelName

if TYPE_CHECKING:
    from datetime import datetime

LONG_PROMPT_TOKENS = 200_000
"""Requests with longer prompts are billed at the higher tier, for models that have one."""

_BATCH_SHARE = Decimal("0.5")
_MILLION = 1_000_000
_PLACES = Decimal("0.000001")
# Kinds of tokens that only embedding, speech and video models price separately.
_UNPRICED = (
    "input_image_tokens",
    "input_video_tokens",
    "output_audio_tokens",
    "output_video_tokens",
)


@dataclass(frozen=True)
class Prices:
    """Batch prices of one tier, in USD per million tokens.

    :param cached: cached prompt tokens
    :param audio: audio prompt tokens
    :param cached_audio: cached audio prompt tokens
    :param output: output tokens, thinking included
    :param image_output: output tokens of images
    """

    input: Decimal
    output: Decimal
    cached: Decimal
    audio: Decimal
    cached_audio: Decimal
    image_output: Decimal


@dataclass(frozen=True)
class BatchPrices:
    """The batch prices of a model.

    :param long: for requests with prompts longer than :data:`LONG_PROMPT_TOKENS`
    """

    short: Prices
    long: Prices

    @classmethod
    def of(cls, value: BatchPrices | Mapping[str, Any]) -> BatchPrices:
        """Parse negotiated batch prices, in USD per million tokens.

        ``input`` and ``output`` are required: ``{"input": 0.12, "output": 1.0}``. Optional are ``cached`` and
        ``audio`` (default: ``input``), ``cached_audio`` (default: ``audio``), ``image_output`` (default:
        ``output``), and ``long``, a dict of the same keys for prompts of more than 200,000 tokens.

        :raises InvalidParameterError: a price is missing, unknown or invalid
        """
        if isinstance(value, BatchPrices):
            return value
        if not isinstance(value, Mapping):
            raise InvalidParameterError("prices", value, "give {'input': 0.12, 'output': 1.0}")
        short = _given({name: price for name, price in value.items() if name != "long"}, "prices")
        longer = value.get("long")
        return cls(short, _given(longer, "prices['long']") if longer is not None else short)

    @classmethod
    def listed(cls, model: str, when: datetime) -> BatchPrices | None:
        """Return the list prices on a date.

        Batch costs half the list price, for input and for output including thinking. A cached token costs its
        list price, because the discounts do not add up.

        :param model: in any form of its name
        :return: ``None`` for a tuned model and for a model whose price is unknown
        """
        parsed = ModelName.parse(model)
        if parsed is None or parsed.is_tuned or parsed.publisher not in (None, "google"):
            return None
        name = parsed.id
        try:
            below = [_listed(name, size, when) for size in (1_000, LONG_PROMPT_TOKENS)]
            beyond = [_listed(name, size, when) for size in (LONG_PROMPT_TOKENS + 1, 5 * LONG_PROMPT_TOKENS)]
        except LookupError:
            return None
        if below[0] != below[1] or beyond[0] != beyond[1]:
            return None  # This model's tiers begin at another length.
        return cls(below[0], beyond[0])


def prices_of(
    model: str, when: datetime, negotiated: BatchPrices | Mapping[str, Any] | None
) -> BatchPrices | None:
    """Return the negotiated prices if given, else the list prices.

    :raises InvalidParameterError: the negotiated prices are invalid
    """
    return BatchPrices.listed(model, when) if negotiated is None else BatchPrices.of(negotiated)


def _given(value: Any, parameter: str) -> Prices:
    names = [field.name for field in fields(Prices)]
    if not isinstance(value, Mapping):
        raise InvalidParameterError(parameter, value, "give a dict of prices")
    if unknown := sorted(set(value) - set(names)):
        raise InvalidParameterError(
            parameter, unknown, f"remove these; the keys are {', '.join(names)} and long"
        )
    found = {name: _price(price, f"{parameter}[{name!r}]") for name, price in value.items()}
    if missing := [name for name in ("input", "output") if name not in found]:
        raise InvalidParameterError(parameter, dict(value), f"{' and '.join(missing)} must be given")
    # Default to the more general price: an estimate that is too high is safer than one too low.
    audio = found.get("audio", found["input"])
    default = {"cached": found["input"], "audio": audio, "cached_audio": audio}
    return Prices(**{**default, "image_output": found["output"], **found})


def _price(value: Any, parameter: str) -> Decimal:
    try:
        price = Decimal(str(value))
        usable = price.is_finite() and price >= 0 and not isinstance(value, bool)
    except InvalidOperation:
        usable = False
    if not usable:
        raise InvalidParameterError(parameter, value, "give USD per million tokens, a number of 0 or more")
    return price.quantize(_PLACES)


def _listed(model: str, prompt_tokens: int, when: datetime) -> Prices:
    """Return the batch prices for prompts of one length.

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
        input_price = prompt(**{kind: everything}) if kind.startswith("input") else None
        output_price = output(**{kind: _MILLION}) if kind.startswith("output") else None
        if input_price not in (None, plain) or output_price not in (None, written):
            raise LookupError(f"{model} has a separate price for {kind}")
    audio = prompt(input_audio_tokens=everything)
    listed = Prices(
        input=plain,
        output=written,
        cached=prompt(cache_read_tokens=everything),
        audio=audio,
        cached_audio=prompt(
            cache_read_tokens=everything,
            input_audio_tokens=everything,
            cache_audio_read_tokens=everything,
        ),
        image_output=output(output_image_tokens=_MILLION),
    )
    return _of_batch(listed)


def _of_batch(listed: Prices) -> Prices:
    half = Prices(**{each.name: getattr(listed, each.name) * _BATCH_SHARE for each in fields(Prices)})
    # A model without a price for cached tokens bills them as other tokens.
    return replace(
        half,
        cached=min(listed.cached, half.input),
        cached_audio=min(listed.cached_audio, half.audio),
    )
