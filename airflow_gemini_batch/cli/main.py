"""The command ``gemini-batch``. What a subcommand needs is imported when it runs."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_gemini_batch import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from airflow_gemini_batch.cli import (
        cancel,
        demo,
        doctor,
        emulator,
        estimate,
        jobs,
        models,
        report,
        up,
        validate,
    )

    top = argparse.ArgumentParser(
        "gemini-batch",
        description="Check, estimate, list and report Gemini batch jobs, and run Airflow DAGs with them on "
        "an emulated Google Cloud on this machine.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (doctor, validate, estimate, models, jobs, cancel, report, demo, up, emulator):
        module.add_parser(commands)
    return top


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """Stop what runs when the process is told to end, as on Ctrl-C, instead of leaving it behind."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :return: the exit code: 0 on success, 1 on an expected error, 130 on Ctrl-C; subcommands add their own
    """
    from airflow_gemini_batch.cli.escaping import escaped_output

    with escaped_output():
        return _run(parser().parse_args(arguments))


def _run(chosen: argparse.Namespace) -> int:
    from airflow_gemini_batch.exceptions import GeminiBatchError, ServiceUnreachableError
    from airflow_gemini_batch.local_stack.service import StackError

    try:
        with _stopping_on_sigterm():
            return int(chosen.run(chosen) or 0)
    except ServiceUnreachableError as error:
        from airflow_gemini_batch.cli.connection import how_to_reach

        print(f"gemini-batch: {error}{how_to_reach(error)}", file=sys.stderr)
        return 1
    except (StackError, GeminiBatchError, OSError) as error:
        print(f"gemini-batch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception:
        # Here, where it is escaped, and not at the exit of the interpreter.
        traceback.print_exc()
        return 1
