"""``python -m tests.crash.latency``: seconds from the end of a job to its rows in the table, in real Airflow.

Jobs run for longer than a few polls, since the first polls come sooner. They end one after another, so that
none waits for the landing of another.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from tests.measure import ASKED_BY

from .airflow_processes import Airflow
from .runs import Run, create_storage

DAG_ID = "load"
SEED = 20261129
# Of the waiting task in that DAG, in seconds.
POLL_INTERVAL = 20.0
TARGET = POLL_INTERVAL / 2 + 10
# Half of it in the queue.
JOB_SECONDS = 100.0


def main() -> int:
    """Measure, and return 1 if the mean is above the target."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.latency", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="gemini-batch-latency-"))
    print(f"seed {SEED}, logs in {directory}", flush=True)
    dice = random.Random(SEED)
    starts = [(number + dice.random() / 2) * POLL_INTERVAL for number in range(arguments.runs)]
    pace = f"seconds:{JOB_SECONDS / 2:g}"
    with Airflow(directory, pace=pace, parallelism=4, dag_ids=(DAG_ID,), timeout=60) as airflow:
        create_storage(airflow)

        def measure(number: int) -> float:
            time.sleep(starts[number])
            run = Run(airflow, DAG_ID, f"latency_{number}")
            run.start()
            seconds = until_visible(run)
            print(f"  {seconds:5.1f} s", flush=True)
            run.wait(120)
            return seconds

        with ThreadPoolExecutor(arguments.runs) as pool:
            took = list(pool.map(measure, range(arguments.runs)))
    mean = statistics.mean(took)
    print(
        f"{len(took)} jobs: {min(took):.1f} to {max(took):.1f} s, {mean:.1f} s on average; "
        f"half a poll and 10 s are {TARGET:.0f} s"
    )
    return 0 if mean <= TARGET else 1


def until_visible(run: Run) -> float:
    """Wait until the rows of a run are in its table, and return for how long its job had ended by then."""
    deadline = time.monotonic() + 300
    while not run.rows():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run.name} is {run.state}, and its table has no rows")
        time.sleep(0.2)
    seen = time.time()
    (job,) = run.airflow.jobs(f"labels.{ASKED_BY}={run.name}")
    return seen - datetime.fromisoformat(job["endTime"]).timestamp()


if __name__ == "__main__":
    sys.exit(main())
