"""``gemini-batch up`` and ``gemini-batch down``: the local stack and Airflow in the background."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch.cli.emulator import add_quotas, pace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.local_stack.standalone import Running

_UP = "start the local stack and Airflow in the background"
_DOWN = "stop what `gemini-batch up` started"
_PACE = "seconds:3"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both subcommands to the parser of ``gemini-batch``; each sets ``run`` to the function to call."""
    up = subparsers.add_parser("up", help=_UP, description=_UP)
    up.add_argument(
        "--dags",
        type=_folder("of your DAG files"),
        metavar="DIR",
        help="your DAG folder (default: example_dags/ of the checkout; without a checkout, a folder with "
        "only the demo DAG)",
    )
    up.add_argument(
        "--pace",
        type=pace,
        help=f"how fast batch jobs advance, see `gemini-batch emulator --help` (default: {_PACE})",
    )
    add_quotas(up)
    up.set_defaults(run=run_up)
    down = subparsers.add_parser("down", help=_DOWN, description=_DOWN)
    down.set_defaults(run=run_down)
    for parser in (up, down):
        parser.add_argument(
            "--directory",
            type=_folder("for data and logs", may_be_new=True),
            metavar="DIR",
            help="folder for data and logs (default: `up` in .local/ of the checkout; without a checkout, in "
            "the folder of this package in your cache directory)",
        )


def _folder(purpose: str, *, may_be_new: bool = False) -> Callable[[str], Path]:
    from argparse import ArgumentTypeError

    def check(text: str) -> Path:
        if not text:  # As from a shell variable that is not set.
            raise ArgumentTypeError(f"it is empty; give the folder {purpose}")
        path = Path(text)
        if not path.is_dir() and not (may_be_new and not path.exists()):
            raise ArgumentTypeError(f"{text!r} is not a folder; give the folder {purpose}")
        return path

    return check


def _directory(arguments: argparse.Namespace) -> Path:
    from airflow_gemini_batch.local_stack.places import up_directory

    given: Path | None = arguments.directory
    return (given or up_directory()).resolve()


def run_up(arguments: argparse.Namespace) -> int:
    """Start Airflow and the stack, unless they run already, and print their addresses.

    :raises StackError: it did not start
    """
    from airflow_gemini_batch.cli.terminal import Steps, Terminal
    from airflow_gemini_batch.local_stack import standalone

    terminal = Terminal()
    directory = _directory(arguments)
    running = standalone.find(directory, arguments.dags, arguments.pace, arguments.quotas)
    if running:
        terminal.line("The local stack is already running.")
    else:
        with Steps(terminal, [standalone.STEP]) as steps:
            running = standalone.start(
                directory,
                arguments.dags,
                arguments.pace or _PACE,
                steps.update,
                quotas=arguments.quotas,
            )
    _print_addresses(terminal, running, directory)
    return 0


def run_down(arguments: argparse.Namespace) -> int:
    """Stop what :func:`run_up` started and wait until it has ended.

    :raises StackError: it did not stop
    """
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.local_stack import standalone

    directory = _directory(arguments)
    Terminal().line("Stopped." if standalone.stop(directory) else f"Nothing is running in {directory}.")
    return 0


def _print_addresses(terminal: Terminal, running: Running, directory: Path) -> None:
    from airflow_gemini_batch.local_stack import airflow_home, places, samples, stack, standalone

    terminal.heading("Airflow")
    terminal.pairs(
        [
            ("UI", f"{running.airflow_url}/dags  (no login; trigger any DAG)"),
            ("DAGs", running.dags),
            ("tasks", f"{airflow_home.TASKS_AT_ONCE} at a time; more wait in the queue"),
            ("logs", str(directory)),
            ("stop", places.stop_command(directory)),
        ]
    )
    if running.addresses:
        terminal.heading("Google Cloud emulators; the answers are made up")
        terminal.pairs(
            [
                ("Vertex AI", running.addresses.vertex_url),
                ("Cloud Storage", running.addresses.storage_url),
                ("BigQuery", running.addresses.bigquery_url),
                ("location", f"{stack.LOCATION} where none is set; your own Airflow has no such default"),
                ("in a shell", f"source {shlex.quote(str(directory / standalone.ENVIRONMENT))}"),
            ]
        )
        terminal.heading("Sample requests")
        for place in samples.PLACES:
            terminal.line(f"  {place}")
