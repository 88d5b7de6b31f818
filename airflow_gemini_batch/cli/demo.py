"""``gemini-batch demo``: run the demo DAG on the local stack and show its table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.local_stack.demo import DemoResult

_TEXT = "run the demo DAG on the local stack and show the table that it writes"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    subparsers.add_parser("demo", help=_TEXT, description=_TEXT).set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Run the demo, print its progress and its result, and return the exit code.

    :raises StackError: the stack did not start, or the DAG failed
    """
    from airflow_gemini_batch.cli.terminal import Steps, Terminal
    from airflow_gemini_batch.local_stack import demo

    terminal = Terminal()
    directory = demo.new_directory()
    terminal.heading("Gemini batch jobs on Apache Airflow")
    terminal.paragraph(
        "Airflow is real. Google Cloud is not: emulators on 127.0.0.1 replace Cloud Storage, BigQuery and "
        "Gemini Enterprise Agent Platform (Vertex AI). The input is real text: the descriptions of the "
        "Python packages installed here. The answers are not from Gemini: the emulator makes them up."
    )
    terminal.line()
    try:
        with Steps(terminal, demo.STEPS) as steps:
            result = demo.run(directory, steps.update)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            terminal.line("\n  Interrupted; everything is stopped.")
        terminal.line(f"  The logs are in {_short(directory)}")
        raise
    _print_result(terminal, result)
    _print_next_steps(terminal, directory)
    return 0


def _short(path: Path) -> str:
    """Return a path relative to the current directory, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _print_result(terminal: Terminal, result: DemoResult) -> None:
    """Print the states of the job, row counts, tokens, cost, and rows of the table."""
    from airflow_gemini_batch.formats import dollars
    from airflow_gemini_batch.local_stack.demo import COLUMNS

    manifest = result.manifest
    terminal.heading("Batch job")
    begun = result.states[0][1]
    for state, at in result.states:
        later = f"+{(at - begun).total_seconds():.1f} s" if at > begun else ""
        terminal.line(f"  {state.name:<12}{at.astimezone():%H:%M:%S}{later:>9}".rstrip())
    terminal.heading("Rows by status")
    terminal.numbers({"input": manifest["input_rows"], **manifest["counts"]})
    terminal.heading("Tokens")
    terminal.numbers(manifest["tokens"])
    cost = manifest["cost_usd"]
    price = "an unknown amount" if cost is None else f"about {dollars(cost)}"
    terminal.paragraph(f"On Google Cloud this batch job would cost {price}.")
    rows = f"{len(result.rows)} of {manifest['input_rows']:,} rows"
    terminal.heading(f"{manifest['destination_table']}, {rows}")
    terminal.table(COLUMNS, result.rows)
    terminal.line()
    terminal.paragraph(f"The demo took {result.seconds:.0f} s. Everything that it started is stopped.")


def _print_next_steps(terminal: Terminal, directory: Path) -> None:
    from airflow_gemini_batch.local_stack.places import DEMO_DAG, example_dags, program

    terminal.heading("Next steps")
    terminal.pairs(
        [
            ("this DAG", _short(example_dags() / DEMO_DAG)),
            ("its logs", _short(directory)),
            ("in the Airflow UI", f"{program()} up"),
            ("your own DAGs", f"{program()} up --dags DIR"),
            ("on Google Cloud", "see the README"),
        ]
    )
    terminal.line()
