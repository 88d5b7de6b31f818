"""``gemini-batch validate``: the check of batch input on the command line."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from airflow_gemini_batch.emulator.terminal import Terminal
    from airflow_gemini_batch.requests.findings import FindingGroup, Report

_CHUNK = 4 * 1024 * 1024
_LARGE = 16 * 1024 * 1024
_LINES_BETWEEN = 4096
_BAR = 30
_CODES = {"job": "red", "row": "yellow", "result": "yellow", "advice": "cyan", "repaired": "green"}
_HEADINGS = {
    "job": "The job would fail, and with it every row",
    "row": "These rows would fail",
    "result": "All would run, and not give what was meant",
    "advice": "Could be safer",
    "repaired": "Repaired",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to what it does."""
    parser = subparsers.add_parser(
        "validate",
        help="check batch input before it is submitted",
        description="Check the input of a batch job for what the service would refuse, after hours in its "
        "queue. Exit code: 0 fine, 1 something was found, 2 wrong usage.",
    )
    parser.add_argument("source", metavar="FILE|gs://URI|-", help="JSONL; - for standard input")
    parser.add_argument("--repair", metavar="OUT", help="write a copy in which is right what has one meaning")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument("--strict", action="store_true", help="exit with 1 on advice too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, print, return the exit code."""
    from airflow_gemini_batch.emulator.terminal import Terminal

    terminal = Terminal(sys.stdout)
    try:
        report, repairs = _check(arguments.source, arguments.repair)
    except InvalidParameterError as error:
        print(f"gemini-batch validate: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gemini-batch validate: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    if arguments.format == "json":
        document = {"source": arguments.source, **report.to_dict()}
        if repairs:
            document["repairs"] = repairs.to_dict()["findings"]
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(terminal, arguments.source, report, repairs)
        if repairs:
            terminal.say(f"Written to {arguments.repair}; what is listed above is what it still has.")
    return 0 if report.is_fine(strict=arguments.strict) else 1


def _check(source: str, out: str | None) -> tuple[Report, Report | None]:
    from airflow_gemini_batch.requests.importer_rules import Check
    from airflow_gemini_batch.requests.repair import Repair

    if out is not None and (out.startswith("gs://") or os.path.realpath(source) == os.path.realpath(out)):
        raise InvalidParameterError("--repair", out, "give another file, of this machine")
    checker = Check()
    with ExitStack() as stack:
        lines = _with_progress(*_open(source, stack, checker.start_file))
        if out is None:
            checker.add_all(lines)
            return checker.report(), None
        repair = Repair()
        # Nobody takes half a file for a whole one.
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


def _open(source: str, stack: ExitStack, start_file: Callable[[str], None]) -> tuple[Iterable[bytes], int]:
    """Return the lines of the source, split at newline bytes only, and its size; 0 if nobody knows."""
    if source == "-":
        return sys.stdin.buffer, 0
    if not source.startswith("gs://"):
        path = Path(source)
        file = stack.enter_context(path.open("rb", buffering=_CHUNK))
        return file, path.stat().st_size
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud.storage import Client

    from airflow_gemini_batch.requests.stored_lines import StoredLines

    try:
        # With STORAGE_EMULATOR_HOST set it needs neither credentials nor a project.
        client = Client()
    except (DefaultCredentialsError, OSError) as error:
        raise InvalidParameterError("source", source, f"no credentials to read it with: {error}") from None
    stack.callback(client.close)
    stored = StoredLines.find([source], client)
    return stored.read(start_file), stored.size


def _with_progress(lines: Iterable[bytes], size: int) -> Iterable[bytes]:
    """Show a bar on the terminal while a large file is read."""
    from airflow_gemini_batch.emulator.terminal import Terminal

    terminal = Terminal(sys.stderr)
    return _drawn(lines, size, terminal) if terminal.is_live and not 0 < size < _LARGE else lines


def _drawn(lines: Iterable[bytes], size: int, terminal: Terminal) -> Iterator[bytes]:
    done = 0
    begun = time.monotonic()
    for count, line in enumerate(lines, start=1):
        done += len(line)
        if count % _LINES_BETWEEN == 0:
            rate = count / max(time.monotonic() - begun, 0.001)
            share = min(done / size, 1.0) if size else 0.0
            bar = "█" * int(share * _BAR) + "·" * (_BAR - int(share * _BAR)) if size else ""
            terminal.draw(f"\r\033[K  {bar} {share:4.0%} " if size else "\r\033[K  ")
            terminal.draw(f"{count:,} lines, {rate:,.0f}/s")
        yield line
    terminal.draw("\r\033[K")


def _print(terminal: Terminal, source: str, report: Report, repairs: Report | None) -> None:
    name = "standard input" if source == "-" else source
    terminal.say(f"{name}: {report.rows:,} rows, {report.size:,} bytes")
    for groups in (repairs.groups if repairs else (), report.groups):
        level = None
        for group in groups:
            if group.level is not level:
                level = group.level
                terminal.heading(_HEADINGS[level.value])
            _print_group(terminal, group)
    if report.unlisted:
        terminal.say(f"\nAnd {report.unlisted:,} findings of more kinds than are listed.")
    terminal.say()
    if not report.groups:
        terminal.say(terminal.style("Nothing found.", "green"))


def _print_group(terminal: Terminal, group: FindingGroup) -> None:
    first = group.first[0]
    lines = ", ".join(f"{finding.line:,}" for finding in group.first if finding.line)
    more = ", …" if group.count > len(group.first) else ""
    where = f"  {'lines' if ',' in lines else 'line'} {lines}{more}" if lines else ""
    key = f" (key {first.key})" if first.key is not None else ""
    title = terminal.style(group.rule, "bold", _CODES[group.level.value])
    terminal.say(f"  {title}  {group.path}  {group.count:,} ×{where}{key}")
    terminal.text(f"  {group.message}")
    if group.fix != group.message:
        terminal.text(f"  → {group.fix}")
