"""Where a subcommand reads its input: a file, objects in Cloud Storage, standard input."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import ExitStack

    from google.cloud.storage import Client

    from airflow_gemini_batch.cli.terminal import Terminal

_CHUNK = 4 * 1024 * 1024
_LARGE = 16 * 1024 * 1024
_LINES_BETWEEN = 4096
_BAR = 30


def name_of(source: str) -> str:
    """Say in words where it is read from."""
    return "standard input" if source == "-" else source


def wrong_usage(command: str, error: InvalidParameterError | OSError) -> int:
    """Tell what is wrong with the arguments, and return the exit code."""
    words = f"{error.filename or ''}: {error.strerror or error}" if isinstance(error, OSError) else error
    print(f"gemini-batch {command}: {words}", file=sys.stderr)
    return 2


def open_lines(
    source: str, stack: ExitStack, start_file: Callable[[str], None]
) -> tuple[Iterable[bytes], int]:
    """Return the lines of the source, split at newline bytes only, and its size; 0 if nobody knows."""
    if source == "-":
        return sys.stdin.buffer, 0
    if not source.startswith("gs://"):
        path = Path(source)
        file = stack.enter_context(path.open("rb", buffering=_CHUNK))
        return file, path.stat().st_size
    from airflow_gemini_batch.requests.stored_lines import StoredLines

    stored = StoredLines.find([source], storage_client(source, stack))
    return stored.read(start_file), stored.size


def storage_client(source: str, stack: ExitStack) -> Client:
    """Return a client with the credentials of the machine.

    :raises InvalidParameterError: there are none
    """
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud.storage import Client

    try:
        # With STORAGE_EMULATOR_HOST set it needs neither credentials nor a project.
        client = Client()
    except (DefaultCredentialsError, OSError) as error:
        raise InvalidParameterError("source", source, f"no credentials to read it with: {error}") from None
    stack.callback(client.close)
    return client


def with_progress(lines: Iterable[bytes], size: int) -> Iterable[bytes]:
    """Show a bar on the terminal while a large file is read."""
    from airflow_gemini_batch.cli.terminal import Terminal

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
