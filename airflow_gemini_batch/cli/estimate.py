"""``gemini-batch estimate``: what a batch job will cost, on the command line."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_gemini_batch.cli.input import (
    name_of,
    open_lines,
    storage_client,
    with_progress,
    wrong_usage,
)
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import argparse

    from airflow_gemini_batch.cost.estimate import Estimate
    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.cost.sample import Sample


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to what it does."""
    parser = subparsers.add_parser(
        "estimate",
        help="say what a batch job will cost",
        description="Estimate the tokens and the cost of a batch job from its input. Nothing is sent to the "
        "service. Exit code: 0, or 2 for wrong usage.",
    )
    parser.add_argument("source", metavar="FILE|gs://URI|-", help="JSONL; - for standard input")
    parser.add_argument("--model", required=True, help="such as gemini-2.5-flash")
    parser.add_argument(
        "--max-output-tokens",
        type=int,
        metavar="N",
        help="reckon with at most N tokens an answer, thoughts included (default: what each request allows)",
    )
    parser.add_argument(
        "--prices",
        metavar="JSON",
        help='negotiated prices, USD per million tokens of the batch: {"input": 0.12, "output": 1.0}',
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Estimate, print, return the exit code."""
    from airflow_gemini_batch.cost.estimate import check_output_tokens, estimate

    try:
        limit = check_output_tokens(arguments.max_output_tokens, "--max-output-tokens")
        prices = _prices(arguments.model, arguments.prices)
        with ExitStack() as stack:
            found = estimate(_sample(arguments.source, stack), prices, output_tokens=limit)
    except (InvalidParameterError, OSError) as error:
        return wrong_usage("estimate", error)
    if arguments.format == "json":
        document = {"source": arguments.source, "model": arguments.model, **found.to_dict()}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(arguments.source, arguments.model, found)
    return 0


def _sample(source: str, stack: ExitStack) -> Sample:
    from airflow_gemini_batch.cost.sample import Sample, sample_objects

    if source.startswith("gs://"):
        return sample_objects([source], storage_client(source, stack))
    return Sample([with_progress(*open_lines(source, stack, lambda _: None))])


def _prices(model: str, given: str | None) -> BatchPrices | None:
    from airflow_gemini_batch.cost.prices import prices_of

    try:
        negotiated = json.loads(given) if given else None
    except ValueError as error:
        raise InvalidParameterError("--prices", given, f"this is not JSON: {error}") from None
    return prices_of(model, datetime.now(UTC), negotiated)


def _print(source: str, model: str, found: Estimate) -> None:
    from airflow_gemini_batch.cli.terminal import Terminal

    terminal = Terminal(sys.stdout)
    terminal.say(f"{name_of(source)}: {found.rows:,} rows for {model}")
    terminal.say()
    for what, value in (
        ("input", f"{found.input_tokens} tokens"),
        ("output", f"{found.output_tokens} tokens"),
        ("cost", terminal.style(str(found.cost_usd or "not known"), "bold")),
    ):
        terminal.say(f"  {what:<8}{value}")
    terminal.heading("How sure")
    for reason in found.reasons:
        terminal.text(f"  {reason}")
