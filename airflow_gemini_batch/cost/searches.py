"""Search queries: how many a job may make, and what they may cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from airflow_gemini_batch.cost.ranges import CostSpan, Span
from airflow_gemini_batch.formats import dollars
from airflow_gemini_batch.models import search_facts

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_gemini_batch.cost.prices import BatchPrices


def queries_of(fewest: float, most: float) -> Span:
    """Return how many queries requests with a search tool may make.

    :param fewest: number of these requests
    :param most: the same, if their number is not certain
    """
    low, high = search_facts().queries_per_request
    return Span(math.floor(fewest * low), math.ceil(most * high))


def search_cost(queries: Span, prices: BatchPrices) -> CostSpan:
    """Return what queries may cost, without those that are free."""

    def cost(number: int | None) -> Decimal:
        return max((number or 0) - prices.free_searches, 0) * prices.search / 1000

    return CostSpan(cost(queries.low), cost(queries.high))


def explain_searches(rows: int, queries: Span, prices: BatchPrices | None) -> str:
    """Say how many queries are assumed, and what they may cost.

    :param rows: number of requests with a search tool, of those that were read
    """
    low, high = search_facts().queries_per_request
    text = (
        f"Requests with a search tool: {rows:,} of those read. Each is estimated at {low} to {high} search "
        f"queries, {queries.of('query', 'queries')} in all"
    )
    if prices is None:
        return f"{text}."
    cost = search_cost(queries, prices)
    free = f" after {prices.free_searches:,} free ones" if prices.free_searches else ""
    hint = "" if free else " If some are free this month, set free_searches in prices."
    price = dollars(prices.search)
    return f"{text}, at {price} per 1,000 queries{free}: {cost} of the cost.{hint}"
