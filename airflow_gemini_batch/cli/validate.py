"""``gemini-batch validate``: check batch input before it is submitted."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_gemini_batch.cli.arguments import add_format, add_source
from airflow_gemini_batch.cli.escaping import in_one_line
from airflow_gemini_batch.cli.input import name_of, open_lines, with_progress, wrong_usage
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.formats import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.requests.checking.findings import FindingGroup, Report

_COLOURS = {"job": "red", "row": "yellow", "result": "yellow", "advice": "cyan", "repaired": "green"}
_HEADINGS = {
    "job": "The job would fail, and every row with it",
    "row": "These rows would fail",
    "result": "The rows would run, but not do what was probably intended",
    "advice": "Advice",
    "repaired": "Repaired",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    parser = subparsers.add_parser(
        "validate",
        help="check batch input before it is submitted",
        description="Check the input of a batch job for errors that the service would report only after "
        "hours in its queue. Exit code: 0 no problems, 1 problems found, 2 wrong usage, or the input "
        "cannot be read.",
    )
    add_source(parser)
    parser.add_argument("--model", help="also check by the rules of this model, such as gemini-3.5-flash")
    parser.add_argument(
        "--repair",
        metavar="OUT",
        help="write a repaired copy; only problems with exactly one safe fix are changed",
    )
    add_format(parser)
    parser.add_argument(
        "--key-field",
        default="key",
        metavar="NAME",
        help="member next to `request` that holds the key, such as custom_id or metadata.request_id; "
        "labels.NAME for a label of the request (default: key)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 for advice as well, also about the model"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the input, print the findings, and return the exit code."""
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.jobs.model_notices import before_submitting

    terminal = Terminal()
    try:
        report, repairs = _check(arguments)
        today = datetime.now(UTC).date()
        notices = before_submitting(arguments.model, None, today) if arguments.model else []
    except (InvalidParameterError, OSError) as error:
        return wrong_usage("validate", error)
    if arguments.format == "json":
        document = {"source": arguments.source, **report.to_dict(), "notices": notices}
        if repairs:
            document["repairs"] = repairs.to_dict()["findings"]
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(terminal, arguments.source, report, repairs, where=" in the rows" if notices else "")
        for notice in notices:
            terminal.paragraph(notice)
        if repairs:
            if report.groups:
                terminal.line()
            terminal.line(
                f"Written to {in_one_line(arguments.repair)}. The problems listed above remain in it."
            )
    is_fine = report.is_fine(strict=arguments.strict) and not (arguments.strict and notices)
    return 0 if is_fine else 1


def _check(arguments: argparse.Namespace) -> tuple[Report, Report | None]:
    from airflow_gemini_batch.requests.checking.import_check import Check
    from airflow_gemini_batch.requests.checking.repair import Repair
    from airflow_gemini_batch.requests.key_field import KeyField

    source, out = arguments.source, arguments.repair
    if out is not None and (out.startswith("gs://") or os.path.realpath(source) == os.path.realpath(out)):
        raise InvalidParameterError("--repair", out, "give the path of another file on this machine")
    field = KeyField.parse(arguments.key_field, "--key-field")
    checker = Check(key_field=field, model=arguments.model)
    with ExitStack() as stack:
        lines = with_progress(*open_lines(source, stack, checker.start_file))
        if out is None:
            checker.add_all(lines)
            return checker.report(), None
        repair = Repair(field)
        # Written under another name first, so that nobody uses an incomplete file.
        partial = Path(f"{out}.partial")
        try:
            with partial.open("wb") as file:
                checker.add_all(_written(map(repair.line, lines), file))
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
        return checker.report(), repair.report()


def _written(lines: Iterable[bytes], file: IO[bytes]) -> Iterator[bytes]:
    for line in lines:
        file.write(line)
        yield line


def _print(terminal: Terminal, source: str, report: Report, repairs: Report | None, *, where: str) -> None:
    terminal.line(f"{name_of(source)}: {counted(report.rows, 'row')}, {counted(report.size, 'byte')}")
    for groups in (repairs.groups if repairs else (), report.groups):
        level = None
        for group in groups:
            if group.level is not level:
                level = group.level
                terminal.heading(_HEADINGS[level.value])
            _print_group(terminal, group)
    if report.unlisted:
        terminal.line(f"\nNot listed: {counted(report.unlisted, 'finding')} of other kinds.")
    if not report.groups:
        terminal.line()
        terminal.line((f"No problems found{where}.", "green"))


def _print_group(terminal: Terminal, group: FindingGroup) -> None:
    first = group.first[0]
    lines = ", ".join(f"{finding.line:,}" for finding in group.first if finding.line)
    more = ", …" if group.count > len(group.first) else ""
    where = f"  {'lines' if ',' in lines else 'line'} {lines}{more}" if lines else ""
    key = f" (key {in_one_line(first.key)})" if first.key is not None else ""
    title = (group.rule, f"bold {_COLOURS[group.level.value]}")
    terminal.line("  ", title, f"  {in_one_line(group.path)}  {group.count:,} ×{where}{key}")
    terminal.paragraph(group.message, indent=4)
    if group.fix != group.message:
        terminal.paragraph(f"→ {group.fix}", indent=4)
