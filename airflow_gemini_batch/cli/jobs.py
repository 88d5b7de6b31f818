"""``gemini-batch jobs``: list the jobs of a project and location, once or again and again."""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.cli.arguments import add_connection, add_installation, add_place
from airflow_gemini_batch.cli.connection import checked_hook_of, installation_of, location_of
from airflow_gemini_batch.cli.input import wrong_usage
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.job_page.rows import JobRow

HEADER = ("state", "done", "rows", "cost", "", "task", "job")
"""Of the columns of :func:`cells`."""
_LEAST_INTERVAL, _LONGEST_INTERVAL = 5.0, 86_400.0
_STATES = [state.name for state in JobState]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    parser = subparsers.add_parser(
        "jobs",
        help="list the jobs of an Airflow installation: state, rows, cost, DAG and task",
        description="List the jobs that this package created in a project and location. Reads only. Exit "
        "code: 0 success, 1 the jobs cannot be listed, 2 wrong usage.",
    )
    add_place(parser)
    parser.add_argument("--dag", metavar="DAG_ID", help="only jobs of this DAG")
    parser.add_argument("--task", metavar="TASK_ID", help="only jobs of this task")
    parser.add_argument(
        "--state",
        action="append",
        type=str.upper,
        choices=[*_STATES, "ACTIVE"],
        metavar="STATE",
        help="only jobs in this state, such as RUNNING; ACTIVE for all that have not ended; may be repeated",
    )
    parser.add_argument(
        "--days", type=float, default=7.0, help="only jobs created in so many days (default: 7)"
    )
    add_installation(parser, "also list the jobs of other installations")
    parser.add_argument("--watch", action="store_true", help="list again and again, until Ctrl-C")
    parser.add_argument(
        "--interval", type=float, default=60.0, metavar="SECONDS", help="for --watch (default: 60)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object, with --watch one a line")
    add_connection(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class _Query:
    hook: GeminiBatchHook
    project: str
    location: str
    installation: str | None
    age: timedelta
    dag: str | None
    task: str | None
    states: frozenset[str]


def run(arguments: argparse.Namespace) -> int:
    """Print the jobs and return the exit code."""
    from airflow_gemini_batch.cli.terminal import Terminal

    try:
        # Airflow logs to standard output, which may be read by a program.
        with redirect_stdout(sys.stderr):
            query = _query(arguments)
    except InvalidParameterError as error:
        return wrong_usage("jobs", error)
    terminal = Terminal()
    while True:
        with redirect_stdout(sys.stderr):
            rows, now = _read(query), datetime.now(UTC)
        if arguments.json:
            _print_json(rows, now, indent=None if arguments.watch else 2)
        else:
            if arguments.watch and terminal.is_live:
                terminal.console.clear()
            _print(terminal, query, rows, now)
        if not arguments.watch:
            return 0
        time.sleep(arguments.interval)


def _query(arguments: argparse.Namespace) -> _Query:
    if not 0 < arguments.days <= 3650:
        raise InvalidParameterError(
            "--days", arguments.days, "give a number of days, greater than 0 and up to 3650"
        )
    if not _LEAST_INTERVAL <= arguments.interval <= _LONGEST_INTERVAL:
        fix = f"give {_LEAST_INTERVAL:g} to {_LONGEST_INTERVAL:g} seconds: each list counts against the quota"
        raise InvalidParameterError("--interval", arguments.interval, fix)
    hook = checked_hook_of(arguments.gcp_conn_id, arguments.project, "to list the jobs")
    states = set(arguments.state or ())
    if "ACTIVE" in states:
        states |= {state.name for state in JobState if not state.is_terminal}
    return _Query(
        hook,
        hook.resolve_project(arguments.project),
        location_of(arguments.location),
        installation_of(arguments.installation, is_any=arguments.all_installations),
        timedelta(days=arguments.days),
        arguments.dag,
        arguments.task,
        frozenset(states),
    )


def _read(query: _Query) -> list[JobRow]:
    from airflow_gemini_batch.job_page.rows import Names, job_row, sorted_rows
    from airflow_gemini_batch.jobs.identity import (
        DAG_LABEL,
        INSTALLATION_LABEL,
        TASK_LABEL,
        label_value,
    )
    from airflow_gemini_batch.jobs.listing import jobs_filter

    now = datetime.now(UTC)
    filter_ = jobs_filter(query.installation, since=now - query.age)
    found = query.hook.list_jobs(query.project, query.location, filter_)
    wanted = {DAG_LABEL: query.dag, TASK_LABEL: query.task, INSTALLATION_LABEL: query.installation}
    names = Names.of_dags([query.dag] if query.dag else [])
    return sorted_rows(
        job_row(job, now, names)
        for job in found
        # Whatever the service makes of the filter.
        if all(job.labels.get(label) == label_value(value) for label, value in wanted.items() if value)
        and (not query.states or job.state.name in query.states)
    )


def _print_json(rows: Sequence[JobRow], now: datetime, indent: int | None) -> None:
    print(json.dumps({"at": now.isoformat(), "jobs": [row.to_dict() for row in rows]}, indent=indent))
    sys.stdout.flush()


def _print(terminal: Terminal, query: _Query, rows: Sequence[JobRow], now: datetime) -> None:
    from airflow_gemini_batch.job_page.rows import totals

    counts = totals(rows)
    summary = (
        f"{counts['running']:,} running, {counts['queued']:,} queued, {counts['good']:,} succeeded, "
        f"{counts['bad']:,} ended otherwise"
    )
    terminal.line(
        (f"{query.project} · {query.location}", "bold"),
        f" · {summary} · {now.astimezone():%H:%M:%S}" if rows else " · no jobs",
    )
    if rows:
        terminal.aligned([cells(row) for row in rows], HEADER)


def cells(row: JobRow) -> tuple[str, ...]:
    """Return the columns of a job."""
    done = "" if row.progress is None else f"{int(row.progress * 100)}%"
    task = ".".join(filter(None, (row.dag_id, row.task_id))) or row.title
    return (row.state, done, row.rows, row.cost, row.age, task, row.job_id)
