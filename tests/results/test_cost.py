from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

from airflow_gemini_batch.results.cost import Tokens, cost_usd

WHEN = datetime(2026, 11, 1, tzinfo=timezone.utc)


def test_a_whole_job_by_hand() -> None:
    """2.5 Pro: short prompts at 0.625 and 5, long ones at 1.25 and 7.5, cached at 0.125 and 0.25."""
    tokens = Tokens(prompt=3_000_000, cached=600_000, output=200_000, thought=100_000, total=3_300_000)
    long = Tokens(prompt=1_000_000, cached=200_000, output=50_000, thought=10_000, total=1_060_000)
    below = Decimal("1.6") * Decimal(".625") + Decimal(".4") * Decimal(".125") + Decimal(".24") * 5
    beyond = (
        Decimal(".8") * Decimal("1.25") + Decimal(".2") * Decimal(".25") + Decimal(".06") * Decimal("7.5")
    )
    assert cost_usd("publishers/google/models/gemini-2.5-pro", tokens, long, WHEN) == below + beyond


def test_a_model_whose_price_is_not_known() -> None:
    assert cost_usd("gemini-9-ultra", Tokens(prompt=1), Tokens(), WHEN) is None
