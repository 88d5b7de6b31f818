"""What a job will cost, before it is paid: a range, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cost.prices import LONG_PROMPT_TOKENS
from airflow_gemini_batch.cost.ranges import MICRO, CostSpan, Span
from airflow_gemini_batch.cost.row_tokens import RowSize, request_of, row_of, row_size
from airflow_gemini_batch.exceptions import CostLimitError, InvalidParameterError
from airflow_gemini_batch.requests.checking.earlier_output import is_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.cost.sample import Sample

# Text of natural languages has between two and six bytes a token.
_FEWEST, _MOST = 2 / 3, 2.0
# A picture costs from a quarter of a tile, at low resolution, to ten tiles.
_IMAGE_FEWEST, _IMAGE_MOST = 1 / 4, 10.0
_LEAST_MARGIN = 0.02
_OF_OUTPUT = (
    "The input is the output of an earlier job, of which the service is said to ask only what failed. What "
    "it charges for the rest is not known, so all rows are reckoned."
)


@dataclass(frozen=True)
class Estimate:
    """What a job will cost.

    :param rows: requests; about, when only a part of the input was read
    :param sampled_rows: requests that were read
    :param cost_usd: ``None`` when the prices of the model are not known
    :param reasons: how sure it is, and why, a sentence each
    """

    rows: int
    sampled_rows: int
    input_tokens: Span
    output_tokens: Span
    cost_usd: CostSpan | None
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "cost_usd": self.cost_usd.to_dict() if self.cost_usd else None}

    def check(self, limit: Decimal) -> None:
        """Refuse a job that may cost more than the limit, in US dollars.

        :raises CostLimitError: it may, or nobody can say
        """
        if self.cost_usd is None or self.cost_usd.high is None or self.cost_usd.high > limit:
            raise CostLimitError(limit, self, self._over(limit))

    def _over(self, limit: Decimal) -> str:
        if self.cost_usd is None:
            found, fix = "nobody can say what", "give prices="
        elif self.cost_usd.high is None:
            found, fix = f"{self.cost_usd} and nothing limits what", "see below"
        else:
            found, fix = f"{self.cost_usd} is what", "raise the limit, ask less, or allow shorter answers"
        return (
            f"max_cost_usd={limit}: {found} {self.rows:,} requests cost; {fix}. No batch job was created. "
            f"{' '.join(self.reasons)}"
        )


@dataclass(frozen=True)
class TokenScale:
    """How many tokens there are for each that was reckoned from bytes and pictures.

    :param counted: requests that the service has counted; 0 when none
    """

    low: float
    high: float
    counted: int = 0


def counted_scale(pairs: Sequence[tuple[int, RowSize]]) -> TokenScale | None:
    """Compare tokens that the service has counted with those reckoned for the same requests.

    :return: ``None`` when there is nothing to compare
    """
    reckoned = sum(size.tokens for _, size in pairs)
    if not reckoned:
        return None
    ratio = sum(tokens for tokens, _ in pairs) / reckoned
    margin = _margin([(tokens, size.tokens) for tokens, size in pairs], ratio)
    return TokenScale(ratio * (1 - margin), ratio * (1 + margin), len(pairs))


def estimate(
    sample: Sample,
    prices: BatchPrices | None,
    *,
    output_tokens: int | None = None,
    scale: TokenScale | None = None,
) -> Estimate:
    """Estimate what the input will cost.

    :param output_tokens: reckon with at most so many tokens an answer, thoughts included; else with what
        each request limits its answer to
    :param scale: from tokens that the service has counted
    """
    sums, chunks = _Sums(), []
    for lines in sample.chunks:
        chunk = _Sums()
        for line in lines:
            row = row_of(line)
            chunk.outputs += is_output(row)
            request = request_of(row)
            size = None if request is None else row_size(request)
            chunk.add(len(line), size, scale, output_tokens, prices)
        sums.merge(chunk)
        chunks.append(chunk)
    whole = sample.whole_bytes
    share = whole / sums.bytes if whole and sums.bytes else 1.0
    margin = 0.0
    if whole and sums.bytes:
        weigh = [(chunk.cost_high or chunk.input_high, float(chunk.bytes)) for chunk in chunks]
        margin = _margin(weigh, sum(weight for weight, _ in weigh) / sums.bytes)
    down, up = share * (1 - margin), share * (1 + margin)

    def span(low: float, high: float, *, known: bool) -> Span:
        return Span(math.floor(low * down), math.ceil(high * up) if known else None)

    cost = None
    if prices:
        bounded = not (sums.unbounded_inputs or sums.unbounded_outputs)
        high = _usd(sums.cost_high * up, ROUND_CEILING) if bounded else None
        cost = CostSpan(_usd(sums.cost_low * down, ROUND_FLOOR), high)
    return Estimate(
        rows=sample.rows if sample.rows is not None else round(sums.rows * share),
        sampled_rows=sums.rows,
        input_tokens=span(sums.input_low, sums.input_high, known=not sums.unbounded_inputs),
        output_tokens=span(0, sums.output_high, known=not sums.unbounded_outputs),
        cost_usd=cost,
        reasons=(
            *_reasons(sums, scale, margin if whole else None, output_tokens, prices),
            *((_OF_OUTPUT,) if sample.is_output or sums.outputs else ()),
        ),
    )


class _Sums:
    """What was added up over rows."""

    def __init__(self) -> None:
        self.rows = self.bytes = self.outputs = self.unbounded_inputs = self.unbounded_outputs = 0
        self.input_low = self.input_high = self.output_high = self.cost_low = self.cost_high = 0.0

    def merge(self, other: _Sums) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def add(
        self,
        length: int,
        size: RowSize | None,
        scale: TokenScale | None,
        output_tokens: int | None,
        prices: BatchPrices | None,
    ) -> None:
        """Add a row; ``None`` for the size of a line that is no request, which fails and costs nothing."""
        self.rows += 1
        self.bytes += length
        if size is None:
            return
        low, high = _input_span(size, scale)
        limits = [limit for limit in (output_tokens, size.max_output_tokens) if limit is not None]
        written = size.candidates * min(limits, default=0)
        self.unbounded_inputs += bool(size.files and not scale)
        self.unbounded_outputs += bool(size.candidates and not limits)
        self.input_low += low
        self.input_high += high
        self.output_high += written
        if prices:
            self.cost_low += _cost(low, 0, prices, hears=False)
            self.cost_high += _cost(high, written, prices, hears=size.hears)


def _input_span(size: RowSize, scale: TokenScale | None) -> tuple[float, float]:
    if scale:
        return size.tokens * scale.low, size.tokens * scale.high
    text = RowSize(text_bytes=size.text_bytes).tokens
    pictures = size.tokens - text
    return text * _FEWEST + pictures * _IMAGE_FEWEST, text * _MOST + pictures * _IMAGE_MOST


def _cost(prompt: float, output: float, prices: BatchPrices, *, hears: bool) -> float:
    tier = prices.long if prompt > LONG_PROMPT_TOKENS else prices.short
    given = max(tier.input, tier.audio) if hears else tier.input
    written = max(tier.output, tier.image_output)
    return (prompt * float(given) + output * float(written)) / 1_000_000


def _margin(pairs: Sequence[tuple[float, float]], ratio: float) -> float:
    """Twice the relative standard error of a ratio of sums, from pairs of numerator and denominator."""
    count, whole = len(pairs), sum(weight for _, weight in pairs)
    if count < 2 or not ratio or not whole:
        return _LEAST_MARGIN
    spread = math.sqrt(sum((value - ratio * weight) ** 2 for value, weight in pairs) / (count - 1))
    return min(max(2 * spread * math.sqrt(count) / (ratio * whole), _LEAST_MARGIN), 1.0)


def _reasons(
    sums: _Sums,
    scale: TokenScale | None,
    margin: float | None,
    output_tokens: int | None,
    prices: BatchPrices | None,
) -> Iterable[str]:
    if margin is None:
        yield f"All {sums.rows:,} rows were read."
    else:
        yield f"{sums.rows:,} rows were read, spread over the input; the rest may differ by {margin:.0%}."
    if scale:
        yield f"The service counted the tokens of {scale.counted:,} prompts."
    else:
        yield "Prompts are reckoned with 2 to 6 bytes of text a token, and pictures with 64 to 2,580 tokens."
    if sums.unbounded_inputs:
        yield (
            f"{sums.unbounded_inputs:,} of the rows read hold sound, films or documents: their tokens are "
            "known when the service has counted them."
        )
    if output_tokens is not None:
        yield f"Answers are reckoned with at most {output_tokens:,} tokens each, as told."
    elif sums.unbounded_outputs:
        yield (
            f"{sums.unbounded_outputs:,} of the rows read set no generationConfig.maxOutputTokens, so "
            "nothing limits what their answers cost; set it, or say what to reckon with."
        )
    else:
        yield "Answers are reckoned with none to all of the tokens that their requests allow."
    if prices is None:
        yield "The prices of this model are not known; give them."
    else:
        yield "What the service caches makes it cheaper."


def check_limit(value: object, parameter: str = "max_cost_usd") -> Decimal:
    """Read a limit in US dollars.

    :raises InvalidParameterError: it is no positive number
    """
    try:
        limit = Decimal(str(value))
        usable = limit.is_finite() and limit > 0 and not isinstance(value, bool)
    except ArithmeticError:
        usable = False
    if not usable:
        raise InvalidParameterError(parameter, value, "give US dollars, a number above 0")
    return limit


def check_output_tokens(value: object, parameter: str) -> int | None:
    """Read how many tokens an answer is to be reckoned with, if any were given.

    :raises InvalidParameterError: it is no positive integer
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidParameterError(parameter, value, "give tokens, an integer of at least 1")
    return value


def _usd(value: float, rounding: str) -> Decimal:
    # What floats are off by is no money.
    return Decimal(f"{value:.9f}").quantize(MICRO, rounding)
