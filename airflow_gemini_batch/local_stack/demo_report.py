"""What the demo prints when the run is over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.local_stack.rest import query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_gemini_batch.batch_job import JobState
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.local_stack.stack import StackAddresses

COLUMNS = ("key", "category", "audience", "one_line_summary")


@dataclass(frozen=True)
class Facts:
    """What is to be told.

    :param states: the states of the job with the time each began
    :param manifest: what the landing task left in XCom
    :param rows: some rows of the table, the values of ``COLUMNS``
    :param seconds: how long everything took
    """

    states: Sequence[tuple[JobState, datetime]]
    manifest: Mapping[str, Any]
    rows: Sequence[Sequence[str]]
    seconds: float


def read_rows(addresses: StackAddresses, manifest: Mapping[str, Any], limit: int = 10) -> list[list[str]]:
    """Read the first rows of the table that was landed."""
    table = manifest["destination_table"]
    sql = f"SELECT {', '.join(COLUMNS)} FROM `{table}` ORDER BY key LIMIT {limit}"  # noqa: S608  # our own names
    return [["" if value is None else value for value in row] for row in query(addresses, sql)]


def short(path: Path) -> str:
    """Return a path as somebody in the current directory would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def show(terminal: Terminal, facts: Facts) -> None:
    """Print the states of the job, the rows by bucket, tokens and cost, and rows of the table."""
    manifest = facts.manifest
    terminal.heading("The job")
    begun = facts.states[0][1]
    for state, at in facts.states:
        later = f"+{(at - begun).total_seconds():.1f} s" if at > begun else ""
        terminal.say(f"  {state.name:<12}{at.astimezone():%H:%M:%S}{later:>9}".rstrip())
    terminal.heading("Its rows, each in one bucket")
    terminal.numbers({"input": manifest["input_rows"], **manifest["counts"]})
    terminal.heading("Tokens")
    terminal.numbers(manifest["tokens"])
    terminal.text(f"The same from Gemini would cost {_cost(manifest['cost_usd'])} in batch.")
    terminal.heading(f"{manifest['destination_table']}, {len(facts.rows)} of {manifest['input_rows']:,} rows")
    terminal.table(COLUMNS, facts.rows)
    terminal.say()
    terminal.text(f"All of it took {facts.seconds:.0f} s, and everything that was started is stopped again.")


def _cost(usd: float | None) -> str:
    return "an unknown amount" if usd is None else f"about ${usd:.4f}"


def show_where_next(terminal: Terminal, directory: Path) -> None:
    """Print what a newcomer can look at now."""
    terminal.heading("Where next")
    terminal.pairs(
        [
            ("example_dags/gemini_batch_demo.py", "the DAG that has just run"),
            ("make up", "the same in Airflow's own page, with all the examples"),
            ("README.md", "how to point it at real Google Cloud"),
            (short(directory), "the logs of this run"),
        ]
    )
    terminal.say()
