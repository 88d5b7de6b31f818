"""``gemini-batch demo``: the main example DAG on the local stack, told as it happens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
from typing import TYPE_CHECKING

from airflow_gemini_batch.cli.terminal import Progress, Step, Terminal
from airflow_gemini_batch.local_stack import airflow_home, samples
from airflow_gemini_batch.local_stack import demo_report as report
from airflow_gemini_batch.local_stack.demo_run import ENVIRONMENT
from airflow_gemini_batch.local_stack.observer import JobObserver, TaskView, tasks
from airflow_gemini_batch.local_stack.service import Service, StackError
from airflow_gemini_batch.local_stack.stack import LOCATION, LocalStack, StackAddresses, checkout

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_gemini_batch.batch_job import BatchJob

TASKS = ("write_requests", "submit", "wait", "land")
PACE = "seconds:2"
_START = "start the stack"
_KEPT_RUNS = 3
_DATABASE = "airflow/airflow.db"
_TICK_SECONDS = 0.1


def run() -> int:
    """Run the demo and print what it did.

    :return: the exit code
    """
    terminal = Terminal()
    directory = _new_directory(checkout() / ".local" / "demo")
    _introduce(terminal)
    try:
        facts = _run(terminal, directory)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            terminal.say("\n  Interrupted; everything is stopped.")
        terminal.say(f"  The logs are in {report.short(directory)}")
        raise
    finally:
        _remove_data(directory)
    report.show(terminal, facts)
    report.show_where_next(terminal, directory)
    return 0


def _run(terminal: Terminal, directory: Path) -> report.Facts:
    began = time.monotonic()
    steps = {name: Step(name) for name in (_START, *TASKS)}
    steps[_START].begin("Cloud Storage, BigQuery, Vertex AI, and Airflow's database")
    with Progress(terminal, list(steps.values())), contextlib.ExitStack() as stack:
        # Airflow needs as long as the stack to get ready, so both do at once.
        airflow = _airflow(directory)
        stack.callback(airflow.stop)
        airflow.start()
        addresses = stack.enter_context(LocalStack(directory / "stack", pace=PACE))
        samples.seed(addresses)
        _hand_over(directory, addresses)
        observer = JobObserver(addresses, LOCATION)
        views: dict[str, TaskView] = {}
        is_running = True
        while is_running:
            # Looked at once more after it has ended.
            is_running = airflow.is_running
            views = tasks(directory / _DATABASE) or views
            _update(steps, views, observer.look())
            time.sleep(_TICK_SECONDS)
        if airflow.wait() != 0:
            raise StackError(f"The demo did not succeed.{_reason(airflow.log)}")
        manifest = views["land"].returned
        rows = report.read_rows(addresses, manifest)
        return report.Facts(observer.states(), manifest, rows, time.monotonic() - began)


def _airflow(directory: Path) -> Service:
    settings = airflow_home.create(directory / "airflow", checkout() / "example_dags")
    command = [sys.executable, "-m", "airflow_gemini_batch.local_stack.demo_run", str(directory)]
    return Service("Airflow", command, directory / "airflow.log", settings)


def _hand_over(directory: Path, addresses: StackAddresses) -> None:
    # The other process looks for the file, so it must appear whole.
    draft = directory / "environment.draft"
    draft.write_text(json.dumps(addresses.environment()))
    os.replace(draft, directory / ENVIRONMENT)


def _update(steps: dict[str, Step], views: dict[str, TaskView], job: BatchJob | None) -> None:
    """Bring the steps to what Airflow and the service say."""
    if views and steps[_START].state == "running":
        steps[_START].end(well=True)
    for name in TASKS:
        step, view = steps[name], views.get(name)
        if view is None or view.state is None or step.state in ("done", "failed"):
            continue
        step.begin()
        if view.has_ended:
            step.end(well=view.state == "success", seconds=view.seconds)
        step.note = _note(name, view, job)


def _note(name: str, view: TaskView, job: BatchJob | None) -> str:
    if name == "wait" and job:
        told = f"{job.state.name}, {job.stats}"
        return f"{told} · deferred: no worker is held" if view.state == "deferred" else told
    if view.state == "failed":
        return "failed"
    if name == "land" and isinstance(view.returned, dict):
        return str(view.returned.get("destination_table", ""))
    return str(view.returned or "")


def _reason(log: Path) -> str:
    """Return the last exception in the log, for the message."""
    found = re.findall(
        r"^[\w.]*(?:Error|Exception|Timeout)\b: .+", log.read_text(errors="replace"), re.MULTILINE
    )
    return f" {found[-1]}" if found else ""


def _introduce(terminal: Terminal) -> None:
    terminal.heading("Gemini batch jobs on Apache Airflow")
    terminal.text(
        "Airflow is real. Google Cloud is not: stand-ins on 127.0.0.1 play Cloud Storage, BigQuery and "
        "Vertex AI. The text is real too: what every Python package installed here says of itself. "
        "The answers are not Gemini's: the stand-in makes them up."
    )
    terminal.say()


def _new_directory(parent: Path) -> Path:
    """Make a directory for this run, and forget all but the latest of the runs before."""
    parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(parent.iterdir())[: -_KEPT_RUNS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    directory = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    directory.mkdir()
    return directory


def _remove_data(directory: Path) -> None:
    for data in ("stack/storage", "stack/bigquery", "stack/bigquery-home", "airflow", ENVIRONMENT):
        path = directory / data
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
