"""What may be paid for a job, and whether its input keeps to it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cost.estimate import (
    check_limit,
    check_output_tokens,
    counted_scale,
    estimate,
)
from airflow_gemini_batch.cost.prices import BatchPrices, prices_of
from airflow_gemini_batch.cost.row_tokens import request_of, row_of, row_size
from airflow_gemini_batch.exceptions import GeminiBatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from airflow_gemini_batch.cost.estimate import Estimate, TokenScale
    from airflow_gemini_batch.cost.sample import Sample

log = logging.getLogger(__name__)

_COUNTED = 20


@dataclass(frozen=True)
class Budget:
    """What may be paid, and what to reckon with. Make it with :meth:`of`, which checks the values.

    :param limit: US dollars; ``None`` for no limit
    :param prices: negotiated; ``None`` for those of the list
    :param output_tokens: tokens of an answer, thoughts included; ``None`` for what each request allows
    """

    limit: Decimal | None = None
    prices: BatchPrices | None = None
    output_tokens: int | None = None

    @classmethod
    def of(cls, max_cost_usd: Any, prices: Any, output_tokens: Any) -> Budget:
        """Check the values of an operator.

        :raises InvalidParameterError: names the parameter, its value and the fix
        """
        return cls(
            limit=None if max_cost_usd is None else check_limit(max_cost_usd),
            prices=None if prices is None else BatchPrices.of(prices),
            output_tokens=check_output_tokens(output_tokens, "estimated_output_tokens"),
        )


def keep_to_budget(
    sample: Sample,
    model: str,
    budget: Budget,
    count: Callable[[Mapping[str, Any]], int] | None = None,
) -> Estimate:
    """Estimate what an input will cost, and refuse it when that may be more than allowed.

    :param model: as a job names it
    :param count: has the service count the tokens of a request
    :raises CostLimitError: it may cost more than the limit, or nobody can say
    """
    prices = prices_of(model, datetime.now(UTC), budget.prices)
    scale = _counted(sample, count) if count else None
    found = estimate(sample, prices, output_tokens=budget.output_tokens, scale=scale)
    log.info(
        "Estimate: %s requests, %s; %s", f"{found.rows:,}", found.cost_usd or "?", " ".join(found.reasons)
    )
    if budget.limit is not None:
        found.check(budget.limit)
    return found


def _counted(sample: Sample, count: Callable[[Mapping[str, Any]], int]) -> TokenScale | None:
    """Have some requests counted that are spread over the sample."""
    rows = (row_of(line) for lines in sample.chunks for line in lines)
    requests = [request for row in rows if (request := request_of(row))]
    step = -(-len(requests) // _COUNTED) or 1
    try:
        return counted_scale([(count(request), row_size(request)) for request in requests[::step]])
    except GeminiBatchError as error:
        log.info("The service does not count the tokens of the prompts, so they are reckoned: %s", error)
        return None
