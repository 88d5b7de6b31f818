"""Tokens and cost of a landing: the parameters of ``outcomes.sql``, and the view ``…_usage`` over them."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cost.prices import Prices
from airflow_gemini_batch.gcp.bigquery_message import explain_error
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import get_table
from airflow_gemini_batch.jobs.spec import own_labels
from airflow_gemini_batch.results.token_kinds import ALL_KINDS, KINDS, MODALITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud.bigquery import Client

    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.gcp.table_name import TableName

log = logging.getLogger(__name__)

MEDIA_COLUMNS = tuple((kind, each, f"{kind}_{each.lower()}_tokens") for kind in KINDS for each in MODALITIES)
"""Kind and modality of tokens that are not text, and the column that counts them."""

_MICRO = 1_000_000


@dataclass(frozen=True)
class Tokens:
    """Tokens by kind. Prompt tokens include cached tokens; output tokens exclude thought tokens.

    :param media: tokens that are not text, by kind and modality: ``{"prompt": {"AUDIO": 1920}}``
    """

    prompt: int = 0
    cached: int = 0
    output: int = 0
    thought: int = 0
    total: int = 0
    media: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> Tokens:
        """Read the row of counts that the landing script returns."""
        totals = {kind: int(counts[f"{kind}_tokens"]) for kind in ALL_KINDS}
        media: dict[str, dict[str, int]] = {}
        for kind, modality, column in MEDIA_COLUMNS:
            if counts[column]:
                media.setdefault(kind, {})[modality] = int(counts[column])
        return cls(**totals, media=media)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types; ``media`` only if there are any."""
        return {name: value for name, value in asdict(self).items() if name != "media" or value}


PRICES = tuple(f"price_{each.name}" for each in fields(Prices))
"""Names of the prices of tokens among the parameters; prompts that are long have others, ``long_…``."""


def price_parameters(prices: BatchPrices | None) -> dict[str, int | None]:
    """Return the prices in millionths of a dollar, per million tokens or 1,000 searches, or ``None``."""
    tokens = {
        f"{prefix}price_{each.name}": int(getattr(tier, each.name) * _MICRO) if tier else None
        for prefix, tier in (("", prices and prices.short), ("long_", prices and prices.long))
        for each in fields(Prices)
    }
    search = int(prices.search * _MICRO) if prices else None
    return {**tokens, "price_search": search, "free_searches": prices.free_searches if prices else None}


def users_labels(labels: Mapping[str, str]) -> str:
    """Return a job's labels as JSON, without those that this package adds."""
    return json.dumps(own_labels(labels), sort_keys=True)


def usage_query(table: TableName) -> str:
    """Return the query of the view ``…_usage``."""
    return render("results/usage", table=table)


def ensure_usage_view(table: TableName, bigquery: Client) -> None:
    """Create the view ``…_usage`` of a results table unless something of that name exists.

    The rows are landed by then, so a failure is only logged.
    """
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.bigquery import Table

    name = str(table.sibling(f"{table.table}_usage"))
    try:
        if not get_table(bigquery, name):
            view = Table(name)
            view.view_query = usage_query(table)
            bigquery.create_table(view, exists_ok=True)
    except GoogleAPICallError as error:
        reason = explain_error(error)
        log.warning("Could not create view (usage_view=False turns it off): %s: %s", name, reason)
