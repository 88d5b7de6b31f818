"""Estimate a job's cost before it runs: a range, and what the range is based on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cost.ranges import MICRO, CostSpan, Span
from airflow_gemini_batch.cost.row_tokens import RowSize, request_of, row_of, row_size
from airflow_gemini_batch.cost.searches import explain_searches, queries_of, search_cost
from airflow_gemini_batch.exceptions import CostLimitError, InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.requests.checking.earlier_output import is_output
from airflow_gemini_batch.service import LONG_PROMPT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_gemini_batch.cost.prices import BatchPrices, Prices
    from airflow_gemini_batch.cost.sample import Sample

# Factors on the tokens that RowSize assumes. Natural-language text has two to six bytes per token.
_TEXT_LOW, _TEXT_HIGH = 2 / 3, 2.0
# An image is billed as a quarter of a tile, at low resolution, up to ten tiles.
_IMAGE_LOW, _IMAGE_HIGH = 1 / 4, 10.0
_MIN_MARGIN = 0.02
_EARLIER_OUTPUT = (
    "The input is the output of an earlier job. According to Google's documentation the service only reruns "
    "failed rows; what it charges for the others is unknown, so the estimate includes all rows."
)


@dataclass(frozen=True)
class Estimate:
    """The estimated tokens, searches and cost of a job.

    :param rows: number of requests; approximate when only part of the input was read
    :param sampled_rows: number of requests that were read
    :param cost_usd: ``None`` when the model's prices are unknown
    :param reasons: sentences on what the ranges are based on
    :param gaps: those of the reasons that say why there is no upper limit, or no cost, and what to set
    :param search_queries: ``None`` when no request has a search tool
    :param rows_without_request: how many of the rows that were read have no request, or are not JSON
    """

    rows: int
    sampled_rows: int
    input_tokens: Span
    output_tokens: Span
    cost_usd: CostSpan | None
    reasons: tuple[str, ...]
    gaps: tuple[str, ...] = ()
    search_queries: Span | None = None
    rows_without_request: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-serializable values."""
        found = {**asdict(self), "cost_usd": self.cost_usd.to_dict() if self.cost_usd else None}
        del found["gaps"]
        return found

    def check(self, limit: Decimal) -> None:
        """Refuse a job that may cost more than the limit.

        :param limit: in US dollars
        :raises CostLimitError: the cost may exceed the limit, or cannot be estimated
        """
        if self.cost_usd is None or self.cost_usd.high is None or self.cost_usd.high > limit:
            raise CostLimitError(limit, self, self._over(limit))

    def _over(self, limit: Decimal) -> str:
        requests = counted(self.rows, "request")
        if self.cost_usd is None:
            problem = f"The cost of {requests} cannot be estimated, so max_cost_usd={limit} cannot be kept."
            fix = "Set prices, or remove the limit."
        elif self.cost_usd.high is None:
            least = f"{self.cost_usd}, and " if self.cost_usd.low else ""
            problem = f"{requests} may cost more than max_cost_usd={limit}: {least}there is no upper limit."
            fix = ""
        else:
            problem = f"{requests} may cost {self.cost_usd}, which is more than max_cost_usd={limit}."
            fix = "Raise the limit, send fewer requests, or lower maxOutputTokens."
        parts = ("No batch job was created, and nothing is charged.", problem, fix, *self.reasons)
        return " ".join(filter(None, parts))


@dataclass(frozen=True)
class TokenScale:
    """Ratio of actual prompt tokens to the tokens that :class:`RowSize` assumes.

    :param counted: number of requests whose tokens the service counted
    """

    low: float
    high: float
    counted: int = 0


def counted_scale(pairs: Sequence[tuple[int, RowSize]]) -> TokenScale | None:
    """Compare token counts of the service with those assumed for the same requests.

    :param pairs: the service's token count and the size of each request
    :return: ``None`` when there is nothing to compare
    """
    assumed = sum(size.tokens for _, size in pairs)
    if not assumed:
        return None
    ratio = sum(tokens for tokens, _ in pairs) / assumed
    margin = _margin([(tokens, size.tokens) for tokens, size in pairs], ratio)
    return TokenScale(ratio * (1 - margin), ratio * (1 + margin), len(pairs))


def estimate(
    sample: Sample,
    prices: BatchPrices | None,
    *,
    output_tokens: int | None = None,
    scale: TokenScale | None = None,
) -> Estimate:
    """Estimate the cost of an input.

    :param prices: ``None`` when unknown; only tokens are estimated then
    :param output_tokens: upper bound of output tokens per response, thinking included; ``None`` for each
        request's ``maxOutputTokens``
    :param scale: from tokens that the service counted
    """
    chunks = [_sum_rows(lines, scale, output_tokens, prices) for lines in sample.chunks]
    sums = _Sums()
    for chunk in chunks:
        sums.merge(chunk)
    whole = sample.whole_bytes
    share = whole / sums.bytes if whole and sums.bytes else 1.0
    margin = 0.0
    if whole and sums.bytes:
        weigh = [(chunk.cost_high or chunk.input_high, float(chunk.bytes)) for chunk in chunks]
        margin = _margin(weigh, sum(weight for weight, _ in weigh) / sums.bytes)
    down, up = share * (1 - margin), share * (1 + margin)

    def span(low: float, high: float, *, known: bool) -> Span:
        return Span(math.floor(low * down), math.ceil(high * up) if known else None)

    queries = _queries(chunks, sums, share, is_sample=bool(whole))
    cost = None
    if prices:
        bounded = not (sums.unbounded_inputs or sums.unbounded_outputs)
        high = _usd(sums.cost_high * up, ROUND_CEILING) if bounded else None
        cost = CostSpan(_usd(sums.cost_low * down, ROUND_FLOOR), high)
        if queries:
            cost = cost.plus(search_cost(queries, prices))
    gaps = tuple(_gaps(sums, output_tokens, prices))
    return Estimate(
        rows=sample.rows if sample.rows is not None else round(sums.rows * share),
        sampled_rows=sums.rows,
        input_tokens=span(sums.input_low, sums.input_high, known=not sums.unbounded_inputs),
        output_tokens=span(0, sums.output_high, known=not sums.unbounded_outputs),
        cost_usd=cost,
        reasons=(
            *_basis(sums, scale, margin if whole else None, output_tokens),
            *gaps,
            *(("Cached input tokens would lower the cost.",) if prices else ()),
            *((explain_searches(sums.searching, queries, prices),) if queries else ()),
            *((_EARLIER_OUTPUT,) if sample.is_output or sums.outputs else ()),
        ),
        gaps=gaps,
        search_queries=queries,
        rows_without_request=sums.without_request,
    )


def _queries(chunks: Sequence[_Sums], sums: _Sums, share: float, *, is_sample: bool) -> Span | None:
    if not sums.searching:
        return None
    margin = 0.0
    if is_sample:
        weigh = [(float(chunk.searching), float(chunk.bytes)) for chunk in chunks]
        margin = _margin(weigh, sums.searching / sums.bytes)
    total = sums.searching * share
    return queries_of(total * (1 - margin), total * (1 + margin))


class _Sums:
    """Totals over rows."""

    def __init__(self) -> None:
        self.rows = self.bytes = self.outputs = self.unbounded_inputs = self.unbounded_outputs = 0
        self.without_request = self.searching = self.embeddings = 0
        self.input_low = self.input_high = self.output_high = self.cost_low = self.cost_high = 0.0

    def merge(self, other: _Sums) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def has_only_embeddings(self) -> bool:
        return bool(self.embeddings) and self.embeddings == self.rows - self.without_request

    def add(
        self,
        length: int,
        size: RowSize | None,
        scale: TokenScale | None,
        output_tokens: int | None,
        prices: BatchPrices | None,
    ) -> None:
        """Add a row; its size is ``None`` when it has no request, fails and costs nothing."""
        self.rows += 1
        self.bytes += length
        if size is None:
            self.without_request += 1
            return
        self.embeddings += not size.candidates
        low, high = _input_span(size, scale)
        limits = [limit for limit in (output_tokens, size.max_output_tokens) if limit is not None]
        written = size.candidates * min(limits, default=0)
        self.unbounded_inputs += bool(size.files and not scale)
        self.unbounded_outputs += bool(size.candidates and not limits)
        self.input_low += low
        self.input_high += high
        self.output_high += written
        self.searching += size.searches
        if prices:
            tier = _tier(low, prices)
            self.cost_low += low * float(min(_input_prices(size, tier))) / 1_000_000
            tier = _tier(high, prices)
            output = max(tier.output, tier.image_output)
            self.cost_high += (
                high * float(max(_input_prices(size, tier))) + written * float(output)
            ) / 1_000_000


def _sum_rows(
    lines: Iterable[bytes], scale: TokenScale | None, output_tokens: int | None, prices: BatchPrices | None
) -> _Sums:
    sums = _Sums()
    for line in lines:
        row = row_of(line)
        sums.outputs += is_output(row)
        request = request_of(row)
        size = None if request is None else row_size(request)
        sums.add(len(line), size, scale, output_tokens, prices)
    return sums


def _input_span(size: RowSize, scale: TokenScale | None) -> tuple[float, float]:
    if scale:
        return size.tokens * scale.low, size.tokens * scale.high
    text = RowSize(text_bytes=size.text_bytes).tokens
    images = size.tokens - text
    return text * _TEXT_LOW + images * _IMAGE_LOW, text * _TEXT_HIGH + images * _IMAGE_HIGH


def _tier(prompt: float, prices: BatchPrices) -> Prices:
    return prices.long if prompt > LONG_PROMPT_TOKENS else prices.short


def _input_prices(size: RowSize, tier: Prices) -> list[Decimal]:
    """The prices of all kinds of tokens that a prompt contains, since the share of each is not known."""
    names = {"input", *size.priced_as, *(("image",) if size.images else ())}
    return [getattr(tier, name) for name in names]


def _margin(pairs: Sequence[tuple[float, float]], ratio: float) -> float:
    """Twice the relative standard error of a ratio of sums, from pairs of numerator and denominator."""
    count, whole = len(pairs), sum(weight for _, weight in pairs)
    if count < 2 or not ratio or not whole:
        return _MIN_MARGIN
    spread = math.sqrt(sum((value - ratio * weight) ** 2 for value, weight in pairs) / (count - 1))
    return min(max(2 * spread * math.sqrt(count) / (ratio * whole), _MIN_MARGIN), 1.0)


def _basis(
    sums: _Sums, scale: TokenScale | None, margin: float | None, output_tokens: int | None
) -> Iterable[str]:
    if margin is None:
        yield "The only row was read." if sums.rows == 1 else f"All {sums.rows:,} rows were read."
    else:
        read = counted(sums.rows, "row")
        was = "was" if sums.rows == 1 else "were"
        yield f"{read} {was} sampled across the input; the other rows may differ by {margin:.0%}."
    if scale:
        yield f"The service counted the tokens of {counted(scale.counted, 'prompt')}."
    else:
        yield "Prompts are estimated at 2 to 6 bytes of text per token and 64 to 2,580 tokens per image."
    if sums.without_request:
        yield (f"Rows without a request, or not JSON: {sums.without_request:,} of those read. They are free.")
        yield "In a file, a single such row fails the job; see `gemini-batch validate`."
    if sums.has_only_embeddings:
        yield "Embeddings have no output tokens."
    elif output_tokens is not None:
        limit = counted(output_tokens, "token")
        yield f"Output is estimated at up to {limit} per response, as configured."
    elif not sums.unbounded_outputs:
        yield "Output is estimated between 0 and each request's maxOutputTokens."


def _gaps(sums: _Sums, output_tokens: int | None, prices: BatchPrices | None) -> Iterable[str]:
    if sums.unbounded_inputs:
        yield (
            "Rows with audio, video, documents or text files, whose tokens are unknown: "
            f"{sums.unbounded_inputs:,} of those read."
        )
    if sums.unbounded_outputs and output_tokens is None and not sums.has_only_embeddings:
        some = f"{sums.unbounded_outputs:,} of the {sums.rows:,} rows read"
        where = "any row" if sums.unbounded_outputs == sums.rows else some
        yield (
            f"maxOutputTokens is not set in {where}: set it, or estimated_output_tokens, for an upper limit."
        )
    if prices is None:
        yield "The prices of this model are unknown; set prices."


def check_limit(value: object, parameter: str = "max_cost_usd") -> Decimal:
    """Parse a limit in US dollars.

    :raises InvalidParameterError: it is not a positive number
    """
    try:
        limit = Decimal(str(value))
        usable = limit.is_finite() and limit > 0 and not isinstance(value, bool)
    except ArithmeticError:
        usable = False
    if not usable:
        raise InvalidParameterError(parameter, value, "give US dollars, a number greater than 0")
    return limit


def check_output_tokens(value: object, parameter: str) -> int | None:
    """Check the expected output tokens per response; ``None`` stays ``None``.

    :raises InvalidParameterError: it is not a positive integer
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidParameterError(parameter, value, "give tokens, an integer of 1 or more")
    return value


def _usd(value: float, rounding: str) -> Decimal:
    # Rounds off floating-point noise, which would otherwise be rounded up to a micro-dollar.
    return Decimal(f"{value:.9f}").quantize(MICRO, rounding)
