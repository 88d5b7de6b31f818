"""``gemini-batch estimate``: estimate the tokens and the cost of a batch job."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_gemini_batch.cli.arguments import add_format, add_source
from airflow_gemini_batch.cli.escaping import in_one_line
from airflow_gemini_batch.cli.input import (
    name_of,
    open_lines,
    refuse_compressed,
    storage_client,
    with_progress,
    wrong_usage,
)
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.models import GLOBAL

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
    add_source(parser)
    parser.add_argument("--model", required=True, help="Gemini model, such as gemini-3.5-flash")
    parser.add_argument(
        "--location",
        metavar="LOCATION",
        help="location of the job, which is part of the price (default: global)",
    )
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
        help='negotiated batch prices in USD per million tokens: {"input": 0.12, "output": 1.0}; searches in '
        'USD per 1,000 queries, and free ones: {"search": 14, "free_searches": 5000}',
    )
    add_format(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Estimate, print the estimate, and return the exit code."""
    from airflow_gemini_batch.cost.estimate import check_output_tokens, estimate
    from airflow_gemini_batch.jobs.model_notices import before_submitting
    from airflow_gemini_batch.jobs.spec import check_location
    from airflow_gemini_batch.requests.checking.import_check import Check

    try:
        limit = check_output_tokens(arguments.max_output_tokens, "--max-output-tokens")
        location = check_location(arguments.location or GLOBAL)
        prices = _prices(arguments.model, location, arguments.prices)
        check = Check(model=arguments.model)
        with ExitStack() as stack:
            sample = _checked(_sample(arguments.source, stack), check)
            found = estimate(sample, prices, output_tokens=limit)
        _refuse_without_requests(arguments.source, found)
        report = check.report()
        notices = before_submitting(arguments.model, location, datetime.now(UTC).date(), found.rows)
    except (InvalidParameterError, OSError) as error:
        return wrong_usage("estimate", error)
    if arguments.format == "json":
        named = {"source": arguments.source, "model": arguments.model, "location": location}
        document = {**named, **found.to_dict(), "failing_rows": report.failing_rows, "notices": notices}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(arguments, location, found, report, notices)
    return 0


def _sample(source: str, stack: ExitStack) -> Sample:
    from airflow_gemini_batch.cost.sample import Sample, sample_objects

    if source.startswith("gs://"):
        sample = sample_objects([source], storage_client(source, stack))
        for chunk in sample.chunks:
            refuse_compressed(source, next(iter(chunk), b""))
            break
        return sample
    return Sample([with_progress(*open_lines(source, stack, lambda _: None))])


def _checked(sample: Sample, check: Check) -> Sample:
    """Return the sample, whose lines are checked as they are read."""

    def checked(lines: Iterable[bytes]) -> Iterator[bytes]:
        for line in lines:
            check.add(line)
            yield line

    return replace(sample, chunks=map(checked, sample.chunks))


def _refuse_without_requests(source: str, found: Estimate) -> None:
    """Refuse an input that would seem to cost nothing, because it is something else.

    :raises InvalidParameterError: no row that was read has a request
    """
    if not found.sampled_rows:
        raise InvalidParameterError("source", source, "it has no rows")
    if found.rows_without_request == found.sampled_rows:
        raise InvalidParameterError(
            "source",
            source,
            'no row has a request; give JSONL, one {"request": …} per line, see `gemini-batch validate`',
        )


def _prices(model: str, location: str, given: str | None) -> BatchPrices | None:
    from airflow_gemini_batch.cost.prices import NegotiatedPrices, prices_of

    try:
        document = json.loads(given) if given else None
    except (ValueError, RecursionError) as error:
        raise InvalidParameterError("--prices", given, f"not valid JSON: {error}") from None
    negotiated = None if document is None else NegotiatedPrices.of(document)
    return prices_of(model, location, datetime.now(UTC), negotiated)


def _print(
    arguments: argparse.Namespace, location: str, found: Estimate, report: Report, notices: list[str]
) -> None:
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.requests.checking.findings import Level

    terminal = Terminal()
    terminal.line(
        f"{name_of(arguments.source)}: {counted(found.rows, 'row')} for {in_one_line(arguments.model)} in "
        f"{location}"
    )
    terminal.line()
    searches = found.search_queries.of("query", "queries") if found.search_queries else ""
    for what, value in (
        ("input", found.input_tokens.of("token", "tokens")),
        ("output", found.output_tokens.of("token", "tokens")),
        ("search", searches),
        ("cost", str(found.cost_usd or "unknown")),
    ):
        if value:
            terminal.line(f"  {what:<8}", (value, "bold" if what == "cost" else ""))
    if report.failing_rows:
        terminal.heading("Rows that would fail")
        kinds = ", ".join(f"{group.rule} {group.count:,} ×" for group in report.of_level(Level.ROW))
        terminal.paragraph(
            f"{report.failing_rows:,} of {counted(report.rows, 'row')} read: {kinds}. `gemini-batch validate "
            f"--model {arguments.model}` lists them.",
            indent=4,
        )
    if notices:
        terminal.heading("Before you submit")
        for notice in notices:
            terminal.paragraph(notice, indent=4)
    terminal.heading("Basis of the estimate")
    if not arguments.location:
        terminal.paragraph(f"The location is {location}; --location names another.", indent=4)
    for reason in found.reasons:
        terminal.paragraph(reason, indent=4)
    missing = {"--max-output-tokens": found.output_tokens.high is None, "--prices": found.cost_usd is None}
    if options := " and ".join(option for option, is_missing in missing.items() if is_missing):
        terminal.paragraph(f"On the command line, set {options}.", indent=4)
