"""Spending limits: estimate a job's cost from its input and refuse it above the limit."""

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
from airflow_gemini_batch.cost.prices import NegotiatedPrices, prices_of
from airflow_gemini_batch.cost.row_tokens import request_of, row_of, row_size
from airflow_gemini_batch.exceptions import GeminiBatchError
from airflow_gemini_batch.formats import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from airflow_gemini_batch.cost.estimate import Estimate, TokenScale
    from airflow_gemini_batch.cost.sample import Sample

log = logging.getLogger(__name__)

_COUNTED_REQUESTS = 20


@dataclass(frozen=True)
class Budget:
    """A spending limit and the assumptions of the estimate. Create it with :meth:`of`.

    :param limit: in US dollars; ``None`` for no limit
    :param prices: negotiated prices; ``None`` for list prices
    :param output_tokens: maximum expected output tokens per response, thinking included; ``None`` for each
        request's ``maxOutputTokens``
    """

    limit: Decimal | None = None
    prices: NegotiatedPrices | None = None
    output_tokens: int | None = None

    @classmethod
    def of(cls, max_cost_usd: Any, prices: Any, output_tokens: Any) -> Budget:
        """Check an operator's parameters.

        :raises InvalidParameterError: names the parameter, its value and the fix
        """
        return cls(
            limit=None if max_cost_usd is None else check_limit(max_cost_usd),
            prices=None if prices is None else NegotiatedPrices.of(prices),
            output_tokens=check_output_tokens(output_tokens, "estimated_output_tokens"),
        )


def keep_to_budget(
    sample: Sample,
    model: str,
    location: str,
    budget: Budget,
    count: Callable[[Mapping[str, Any]], int] | None = None,
) -> Estimate:
    """Estimate the cost of an input, and refuse it if it may exceed the limit.

    :param model: publisher model or tuned model, in any form of its name
    :param location: of the job
    :param count: asks the service for the number of prompt tokens of a request
    :raises CostLimitError: the cost may exceed the limit, or cannot be estimated
    """
    prices = prices_of(model, location, datetime.now(UTC), budget.prices)
    scale = _counted(sample, count) if count else None
    found = estimate(sample, prices, output_tokens=budget.output_tokens, scale=scale)
    log.info("Estimate: %s, %s", counted(found.rows, "request"), found.cost_usd or "cost unknown")
    for gap in found.gaps:
        log.info("%s", gap)
    if budget.limit is not None:
        found.check(budget.limit)
    return found


def _counted(sample: Sample, count: Callable[[Mapping[str, Any]], int]) -> TokenScale | None:
    """Let the service count the tokens of some requests, spread over the sample."""
    rows = (row_of(line) for lines in sample.chunks for line in lines)
    requests = [request for row in rows if (request := request_of(row))]
    step = -(-len(requests) // _COUNTED_REQUESTS) or 1
    try:
        return counted_scale([(count(request), row_size(request)) for request in requests[::step]])
    except GeminiBatchError as error:
        log.info("Prompt tokens are estimated because the service could not count them: %s", error)
        return None
