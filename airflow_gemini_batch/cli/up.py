"""``gemini-batch up`` and ``gemini-batch down``: the local stack and Airflow in the background."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.local_stack.standalone import Running

_UP = "start the local stack and Airflow in the background"
_DOWN = "stop what `gemini-batch up` started"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both subcommands to the parser of ``gemini-batch``; each sets ``run`` to the function to call."""
    up = subparsers.add_parser("up", help=_UP, description=_UP)
    up.add_argument(
        "--dags", type=Path, metavar="DIR", help="your DAG folder (default: the example DAGs of this package)"
    )
    up.add_argument("--pace", help="how fast batch jobs advance, see `gemini-batch emulator --help`")
    up.set_defaults(run=run_up)
    down = subparsers.add_parser("down", help=_DOWN, description=_DOWN)
    down.set_defaults(run=run_down)
    for parser in (up, down):
        parser.add_argument(
            "--directory",
            type=Path,
            metavar="DIR",
            help="folder for data and logs (default: .local/up of the checkout; without a checkout, "
            "~/.cache/airflow-provider-gemini-batch/up)",
        )


def run_up(arguments: argparse.Namespace) -> int:
    """Start Airflow and the stack, unless they run already, and print their addresses.

    :raises StackError: it did not start
    """
    from airflow_gemini_batch.cli.terminal import Steps, Terminal
    from airflow_gemini_batch.local_stack import standalone

    terminal = Terminal()
    directory = (arguments.directory or standalone.default_directory()).resolve()
    running = standalone.find(directory, arguments.dags)
    if running:
        terminal.line("It is running already.")
    else:
        with Steps(terminal, [standalone.STEP]) as steps:
            pace = arguments.pace or standalone.PACE
            running = standalone.start(directory, arguments.dags, pace, steps.update)
    _print_addresses(terminal, running, directory)
    return 0


def run_down(arguments: argparse.Namespace) -> int:
    """Stop what :func:`run_up` started and wait until it has ended.

    :raises StackError: it did not stop
    """
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.local_stack import standalone

    directory = (arguments.directory or standalone.default_directory()).resolve()
    Terminal().line("Stopped." if standalone.stop(directory) else "Nothing is running.")
    return 0


def _print_addresses(terminal: Terminal, running: Running, directory: Path) -> None:
    from airflow_gemini_batch.local_stack import places, standalone

    stop = "make down" if places.checkout() else "gemini-batch down"
    if directory != standalone.default_directory():
        stop = f"gemini-batch down --directory {directory}"
    terminal.heading("Airflow")
    terminal.pairs(
        [
            ("UI", f"{running.airflow_url}/dags  (no login; trigger any DAG)"),
            ("DAGs", running.dags),
            ("logs", str(directory)),
            ("stop", stop),
        ]
    )
    if running.addresses:
        terminal.heading("Google Cloud emulators; the answers are made up")
        terminal.pairs([(name, str(value)) for name, value in asdict(running.addresses).items()])
