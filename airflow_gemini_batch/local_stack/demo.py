"""The run of ``gemini-batch demo``: the demo DAG on the local stack."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.local_stack import airflow_home, samples
from airflow_gemini_batch.local_stack.bigquery_python import find_bigquery_python
from airflow_gemini_batch.local_stack.demo_run import ENVIRONMENT
from airflow_gemini_batch.local_stack.observer import JobObserver, TaskView, tasks
from airflow_gemini_batch.local_stack.places import data_directory, example_dags
from airflow_gemini_batch.local_stack.progress import OnStep, Step
from airflow_gemini_batch.local_stack.rest import query
from airflow_gemini_batch.local_stack.service import Service, StackError, open_private
from airflow_gemini_batch.local_stack.stack import LOCATION, LocalStack, StackAddresses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from airflow_gemini_batch.batch_job import BatchJob, JobState

COLUMNS = ("key", "category", "audience", "one_line_summary")
PACE = "seconds:2"
_START = "start the stack"
_TASKS = ("write_requests", "submit", "wait", "land")
STEPS = (_START, *_TASKS)
_ROWS = 10
_KEPT_RUNS = 3
_DATABASE = "airflow/airflow.db"
_TICK_SECONDS = 0.1


@dataclass(frozen=True)
class DemoResult:
    """What the demo did.

    :param states: the states of the job with the time each began
    :param manifest: what the landing task returned
    :param rows: the first rows of the table, the values of ``COLUMNS``
    :param seconds: how long the demo took
    """

    states: Sequence[tuple[JobState, datetime]]
    manifest: Mapping[str, Any]
    rows: Sequence[Sequence[str]]
    seconds: float


def run(directory: Path, on_step: OnStep) -> DemoResult:
    """Run the demo in ``directory``; leave only logs there, and no process.

    :param on_step: is called with each of ``STEPS`` whenever it changes
    :raises StackError: the stack did not start, or the DAG failed
    """
    began = time.monotonic()
    on_step(Step(_START, "running", "Cloud Storage, BigQuery, Vertex AI, and Airflow's database"))
    # Before Airflow starts, which waits for the stack only so long.
    find_bigquery_python(lambda note: on_step(Step(_START, "running", note)))
    try:
        with contextlib.ExitStack() as stack:
            # Airflow and the stack take equally long to start, so they start at the same time.
            airflow = _airflow(directory)
            stack.callback(airflow.stop)
            airflow.start()
            addresses = stack.enter_context(LocalStack(directory / "stack", pace=PACE))
            samples.seed(addresses)
            _hand_over(directory, addresses)
            observer = JobObserver(addresses, LOCATION)
            manifest = _follow(airflow, directory / _DATABASE, observer, on_step)
            rows = _read_rows(addresses, manifest["destination_table"])
            return DemoResult(observer.states(), manifest, rows, time.monotonic() - began)
    finally:
        _remove_data(directory)


def new_directory() -> Path:
    """Make a directory for a run and delete those of earlier runs, except the latest."""
    parent = data_directory() / "demo"
    parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(parent.iterdir())[: -_KEPT_RUNS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    directory = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    directory.mkdir()
    return directory


def _airflow(directory: Path) -> Service:
    settings = airflow_home.create(directory / "airflow", example_dags())
    command = [sys.executable, "-m", "airflow_gemini_batch.local_stack.demo_run", str(directory)]
    return Service("Airflow", command, directory / "airflow.log", settings)


def _hand_over(directory: Path, addresses: StackAddresses) -> None:
    # The other process polls for this file, so it must appear complete.
    draft = directory / "environment.draft"
    with open_private(draft) as file:
        file.write(json.dumps(addresses.environment()).encode())
    os.replace(draft, directory / ENVIRONMENT)


def _follow(airflow: Service, database: Path, observer: JobObserver, on_step: OnStep) -> Mapping[str, Any]:
    """Report the tasks until Airflow ends, and return what the landing task returned."""
    views: dict[str, TaskView] = {}
    reported: dict[str, Step] = {}
    is_running = True
    while is_running:
        # Read before the tasks, so that they are read again after Airflow has ended.
        is_running = airflow.is_running
        views = tasks(database) or views
        for step in _steps(views, observer.read()):
            if reported.get(step.name) != step:
                reported[step.name] = step
                on_step(step)
        time.sleep(_TICK_SECONDS)
    if airflow.wait() != 0:
        raise StackError(f"The demo failed.{_reason(airflow.log)}")
    manifest: Mapping[str, Any] = views["land"].returned
    return manifest


def _steps(views: Mapping[str, TaskView], job: BatchJob | None) -> list[Step]:
    """Return the steps that have begun, as Airflow and the service report them."""
    steps = (
        [Step(_START, "done", "Cloud Storage, BigQuery, Vertex AI, and Airflow's database")] if views else []
    )
    for name in _TASKS:
        view = views.get(name)
        if view is None or view.state is None:
            continue
        ended = "done" if view.state == "success" else "failed"
        seconds = view.seconds if view.has_ended else None
        steps.append(Step(name, ended if view.has_ended else "running", _note(name, view, job), seconds))
    return steps


def _note(name: str, view: TaskView, job: BatchJob | None) -> str:
    if name == "wait" and job:
        progress = f"{job.state.name}, {job.stats}"
        return f"{progress} · deferred: occupies no worker slot" if view.state == "deferred" else progress
    if view.state == "failed":
        return "failed"
    if name == "land" and isinstance(view.returned, dict):
        return str(view.returned.get("destination_table", ""))
    return str(view.returned or "")


def _reason(log: Path) -> str:
    """Return the last exception in the log, for the error message."""
    found = re.findall(
        r"^[\w.]*(?:Error|Exception|Timeout)\b: .+", log.read_text(errors="replace"), re.MULTILINE
    )
    return f" {found[-1]}" if found else ""


def _read_rows(addresses: StackAddresses, table: str) -> list[list[str]]:
    sql = f"SELECT {', '.join(COLUMNS)} FROM `{table}` ORDER BY key LIMIT {_ROWS}"  # noqa: S608  # our own names
    return [["" if value is None else value for value in row] for row in query(addresses, sql)]


def _remove_data(directory: Path) -> None:
    for data in ("stack/bigquery", "stack/bigquery-home", "airflow", ENVIRONMENT):
        path = directory / data
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
