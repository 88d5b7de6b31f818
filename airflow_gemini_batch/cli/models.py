"""``gemini-batch models``: list the models, where they are offered, until when, and what they cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cli.arguments import add_format
from airflow_gemini_batch.models import GLOBAL

if TYPE_CHECKING:
    import argparse
    from datetime import date

    from airflow_gemini_batch.models import Model, Models

_HEADER = ("model", "batch price", "rows", "output", "retires", "locations")
_SHOWN_LOCATIONS = 3


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    parser = subparsers.add_parser(
        "models",
        help="list the models: where they are offered, until when, and what they cost",
        description="List what is known of the models that Google offers for batch inference. The "
        "environment variable GEMINI_BATCH_MODELS may name a newer file like the package's models.json.",
    )
    add_format(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the models and return the exit code."""
    from airflow_gemini_batch.models import models

    known, now = models(), datetime.now(UTC)
    rows = [_row(name, known.by_id[name], now) for name in sorted(known.by_id, reverse=True)]
    rows.sort(key=lambda row: (row["kind"] == "embedding", row["is_retired"], not row["locations"]))
    if arguments.format == "json":
        print(json.dumps({"as_of": known.as_of.isoformat(), "models": rows}, indent=2))
    else:
        _print(known, rows)
    return 0


def _row(name: str, found: Model, now: datetime) -> dict[str, Any]:
    from airflow_gemini_batch.cost.prices import BatchPrices

    prices = BatchPrices.listed(name, GLOBAL, now)
    return {
        "model": name,
        "kind": found.kind,
        "stage": found.stage,
        "locations": sorted(found.locations, key=_breadth),
        "is_retired": found.is_retired(now.date()),
        "retires": _iso(found.retires),
        "retires_or_later": found.retires_or_later,
        "switched_off": _iso(found.switched_off),
        "replacement": found.replacement,
        "batch_usd_per_million_tokens": prices
        and {"input": float(prices.short.input), "output": float(prices.short.output)},
        "outside_global": float(found.outside_global),
        "max_rows": found.max_rows,
        "max_output_tokens": found.max_output_tokens,
        "thinking_levels": list(found.thinking_levels),
        "refuses": list(found.refuses),
        "ignores": list(found.ignores),
    }


def _breadth(location: str) -> tuple[bool, bool, str]:
    return location != GLOBAL, "-" in location, location


def _iso(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _print(known: Models, rows: list[dict[str, Any]]) -> None:
    from airflow_gemini_batch.cli.terminal import Terminal

    terminal = Terminal()
    terminal.aligned([_cells(row) for row in rows if row["model"] in known.models], _HEADER)
    for row in rows:
        if len(row["locations"]) > _SHOWN_LOCATIONS:
            terminal.heading(f"  Locations of {row['model']}")
            terminal.paragraph(", ".join(row["locations"]))
    if replaced := [(row["model"], row["replacement"]) for row in rows if row["replacement"]]:
        terminal.heading("  Retired or about to be: use instead")
        terminal.pairs(replaced)
    terminal.line()
    terminal.paragraph(
        "batch price: US dollars per million tokens of input / output in `global`. × 1.1: all other "
        "locations cost that much more. rows: the most of one job. output: the most tokens of a response. "
        "retires: the day on which new projects can no longer use it; +: on that day or later. Blank: not "
        "known."
    )
    terminal.paragraph(f"As of {known.as_of:%Y-%m-%d}.")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    prices = row["batch_usd_per_million_tokens"]
    more = f" × {row['outside_global']:g}" if row["outside_global"] != 1 else ""
    cost = f"{prices['input']:g} / {prices['output']:g}{more}" if prices else "unknown"
    locations = row["locations"]
    return (
        row["model"],
        cost,
        f"{row['max_rows']:,}",
        f"{row['max_output_tokens']:,}" if row["max_output_tokens"] else "",
        f"{row['retires']}{'+' if row['retires_or_later'] else ''}" if row["retires"] else "",
        ", ".join(locations) if len(locations) <= _SHOWN_LOCATIONS else f"{len(locations)}, see below",
    )
