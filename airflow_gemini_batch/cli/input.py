"""The input of a subcommand: a file, objects in Cloud Storage, or standard input."""

from __future__ import annotations

import sys
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch.cli.escaping import in_one_line
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import ExitStack

    from google.cloud.storage import Client

    from airflow_gemini_batch.cli.terminal import Terminal

_CHUNK = 4 * 1024 * 1024
_LARGE = 16 * 1024 * 1024
_LINES_BETWEEN = 4096
_GZIP = b"\x1f\x8b"


def name_of(source: str) -> str:
    """Return the name of the input for people."""
    return "standard input" if source == "-" else in_one_line(source)


def wrong_usage(command: str, error: InvalidParameterError | OSError) -> int:
    """Print what is wrong with the arguments, and return the exit code."""
    if isinstance(error, OSError):
        text = f"{in_one_line(str(error.filename))}: {error.strerror}" if error.filename else str(error)
    elif error.parameter in ("source", "input_uri"):
        text = f"{in_one_line(str(error.value))}: {error.fix}"
    else:
        # The same prices are a parameter of the operators.
        text = f"--{error}" if error.parameter.startswith("prices") else str(error)
    print(f"gemini-batch {command}: {text}", file=sys.stderr)
    return 2


def open_lines(
    source: str, stack: ExitStack, start_file: Callable[[str], None]
) -> tuple[Iterable[bytes], int]:
    """Return the lines of the input, split at newline bytes only, and its size in bytes; 0 if unknown.

    :param start_file: is called with the URI of each object before its first line
    :raises InvalidParameterError: the input is a table, compressed, or there is no such object
    """
    lines, size = _open(source, stack, start_file)
    rest = iter(lines)
    first = next(rest, b"")
    refuse_compressed(source, first)
    return chain([first] if first else [], rest), size


def refuse_compressed(source: str, first_line: bytes) -> None:
    """Refuse an input that begins as a gzip file does.

    :raises InvalidParameterError: it does
    """
    if first_line.startswith(_GZIP):
        raise InvalidParameterError(
            "source", source, "it is compressed with gzip; this command reads JSONL, so decompress it first"
        )


def _open(source: str, stack: ExitStack, start_file: Callable[[str], None]) -> tuple[Iterable[bytes], int]:
    if source == "-":
        return sys.stdin.buffer, 0
    if source.startswith("bq://"):
        raise InvalidParameterError(
            "source",
            source,
            "this command reads JSONL only; for a table, set preflight=True or max_cost_usd on the operator "
            "that submits the job",
        )
    if not source.startswith("gs://"):
        path = Path(source)
        file = stack.enter_context(path.open("rb", buffering=_CHUNK))
        return file, path.stat().st_size
    from airflow_gemini_batch.requests.stored_lines import StoredLines

    stored = StoredLines.find([source], storage_client(source, stack))
    return stored.read(start_file), stored.size


def storage_client(source: str, stack: ExitStack) -> Client:
    """Return a client with the Application Default Credentials of this machine.

    :raises InvalidParameterError: there are no credentials
    """
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud.storage import Client

    try:
        # With STORAGE_EMULATOR_HOST set, the client needs neither credentials nor a project.
        client = Client()
    except (DefaultCredentialsError, OSError) as error:
        raise InvalidParameterError("source", source, f"found no credentials to read it: {error}") from None
    stack.callback(client.close)
    return client


def with_progress(lines: Iterable[bytes], size: int) -> Iterable[bytes]:
    """Yield the lines; show a progress bar if standard error is a terminal and the input is large."""
    from airflow_gemini_batch.cli.terminal import Terminal

    terminal = Terminal(sys.stderr)
    return _with_bar(lines, size, terminal) if terminal.is_live and not 0 < size < _LARGE else lines


def _with_bar(lines: Iterable[bytes], size: int, terminal: Terminal) -> Iterator[bytes]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    done = 0
    columns = (BarColumn(), TaskProgressColumn()) if size else ()
    text = TextColumn("{task.fields[lines]:,} lines, {task.fields[rate]:,.0f}/s", markup=False)
    with Progress(*columns, text, console=terminal.console, transient=True) as progress:
        task = progress.add_task("", total=size or None, lines=0, rate=0.0)
        begun = time.monotonic()
        for count, line in enumerate(lines, start=1):
            done += len(line)
            if count % _LINES_BETWEEN == 0:
                rate = count / max(time.monotonic() - begun, 0.001)
                progress.update(task, completed=done, lines=count, rate=rate)
            yield line
