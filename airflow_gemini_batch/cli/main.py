"""The command ``gemini-batch``. Each subcommand is imported when it is chosen."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


def _demo(_: argparse.Namespace) -> int:
    from airflow_gemini_batch.local_stack import demo

    return demo.run()


def _up(chosen: argparse.Namespace) -> int:
    from airflow_gemini_batch.local_stack import standalone

    return standalone.up(chosen.directory, chosen.pace or standalone.PACE)


def _down(chosen: argparse.Namespace) -> int:
    from airflow_gemini_batch.local_stack import standalone

    return standalone.down(chosen.directory)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    from airflow_gemini_batch.cli import emulator, estimate, report, validate

    top = argparse.ArgumentParser(
        "gemini-batch", description="Gemini batch jobs from Airflow, on this machine."
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (emulator, validate, estimate, report):
        module.add_parser(commands)
    for name, run, text in (
        ("demo", _demo, "run the main example DAG on the local stack and show the table that it lands"),
        ("up", _up, "start the local stack under a real Airflow, in the background"),
        ("down", _down, "stop what `up` started"),
    ):
        commands.add_parser(name, help=text, description=text).set_defaults(run=run)
    for name in ("up", "down"):
        where = "folder for data and logs (default: .local/up of the checkout)"
        commands.choices[name].add_argument("--directory", type=Path, help=where)
    commands.choices["up"].add_argument("--pace", help="how fast jobs advance, see `gemini-batch emulator`")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :return: the exit code: 0 when all went well, 1 on a failure that is explained, 130 on Ctrl-C
    """
    from airflow_gemini_batch.exceptions import GeminiBatchError
    from airflow_gemini_batch.local_stack.service import StackError

    chosen = parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen) or 0)
    except (StackError, GeminiBatchError) as error:
        print(f"gemini-batch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
