"""``gemini-batch estimate``: estimate the tokens and the cost of a batch job."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
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
    from collections.abc import Iterable, Iterator

    from airflow_gemini_batch.cost.estimate import Estimate
    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.cost.sample import Sample
    from airflow_gemini_batch.requests.checking.findings import Report
    from airflow_gemini_batch.requests.checking.import_check import Check


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    parser = subparsers.add_parser(
        "estimate",
        help="estimate the tokens and the cost of a batch job",
        description="Estimate the tokens and the cost of a batch job from its input. Nothing is sent to the "
        "service. Exit code: 0 success, 2 wrong usage, or the input cannot be read.",
    )
    parser.add_argument(
        "source", metavar="FILE|gs://URI|-", help="JSONL input of the job; - for standard input"
    )
    parser.add_argument("--model", required=True, help="Gemini model, such as gemini-2.5-flash")
    parser.add_argument(
        "--max-output-tokens",
        type=int,
        metavar="N",
        help="expect at most N output tokens per response, thinking included (default: maxOutputTokens of "
        "each request)",
    )
    parser.add_argument(
        "--prices",
        metavar="JSON",
        help='negotiated batch prices in USD per million tokens: {"input": 0.12, "output": 1.0}',
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="output format (default: text)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Estimate, print the estimate, and return the exit code."""
    from airflow_gemini_batch.cost.estimate import check_output_tokens, estimate
    from airflow_gemini_batch.requests.checking.import_check import Check

    try:
        limit = check_output_tokens(arguments.max_output_tokens, "--max-output-tokens")
        prices = _prices(arguments.model, arguments.prices)
        check = Check(model=arguments.model)
        with ExitStack() as stack:
            sample = _checked(_sample(arguments.source, stack), check)
            found = estimate(sample, prices, output_tokens=limit)
        report = check.report()
    except (InvalidParameterError, OSError) as error:
        return wrong_usage("estimate", error)
    if arguments.format == "json":
        document = {"source": arguments.source, "model": arguments.model, **found.to_dict()}
        document["failing_rows"] = report.failing_rows
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(arguments.source, arguments.model, found, report)
    return 0


def _sample(source: str, stack: ExitStack) -> Sample:
    from airflow_gemini_batch.cost.sample import Sample, sample_objects

    if source.startswith("gs://"):
        return sample_objects([source], storage_client(source, stack))
    return Sample([with_progress(*open_lines(source, stack, lambda _: None))])


def _checked(sample: Sample, check: Check) -> Sample:
    """Return the sample, whose lines are checked as they are read."""

    def checked(lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            check.add(line)
            yield line

    return replace(sample, chunks=map(checked, sample.chunks))


def _prices(model: str, given: str | None) -> BatchPrices | None:
    from airflow_gemini_batch.cost.prices import prices_of

    try:
        negotiated = json.loads(given) if given else None
    except (ValueError, RecursionError) as error:
        raise InvalidParameterError("--prices", given, f"not valid JSON: {error}") from None
    return prices_of(model, datetime.now(UTC), negotiated)


def _print(source: str, model: str, found: Estimate, report: Report) -> None:
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.requests.checking.findings import Level

    terminal = Terminal()
    terminal.line(f"{name_of(source)}: {found.rows:,} rows for {model}")
    terminal.line()
    for what, value in (
        ("input", str(found.input_tokens)),
        ("output", str(found.output_tokens)),
        ("cost", str(found.cost_usd or "unknown")),
    ):
        terminal.line(f"  {what:<8}", (value, "bold" if what == "cost" else ""))
    if report.failing_rows:
        terminal.heading("Rows that would fail")
        kinds = ", ".join(f"{group.rule} {group.count:,} ×" for group in report.of_level(Level.ROW))
        terminal.paragraph(
            f"{report.failing_rows:,} of the {report.rows:,} rows read: {kinds}. `gemini-batch validate "
            f"--model {model}` lists them.",
            indent=4,
        )
    terminal.heading("Basis of the estimate")
    for reason in found.reasons:
        terminal.paragraph(reason, indent=4)
