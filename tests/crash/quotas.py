"""``python -m tests.crash.quotas``: many mapped tasks submit at once, and the service enforces its quotas.

First the operators alone, in threads of one process, without a scheduler: then the quota is the limit, and
not the processors of this machine. Then in real Airflow, with as many tasks as a small machine can run at
once; others have used up most of the quota there, so that these tasks wait for it as well.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.local_stack.rest import call
from airflow_gemini_batch.local_stack.stack import LOCATION, LocalStack

if TYPE_CHECKING:
    from airflow_gemini_batch.local_stack.stack import StackAddresses

DAG_ID = "quotas"
BUCKET = "crash"
# Google's: jobs that may be created in a minute.
A_MINUTE = 60
MARGIN = 1.2
_LINE = {"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}}


@dataclass(frozen=True)
class Result:
    """What became of the tasks.

    :param seconds: from the start of the tasks until all have ended
    :param wrong: failed checks
    """

    name: str
    tasks: int
    seconds: float
    window: float
    usage: dict[str, Any]
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        allowed = quota_seconds(self.tasks, self.window)
        refused = self.usage["refused"]
        text = (
            f"{self.name}: {self.tasks} tasks at once, a minute of the quota takes {self.window:g} s; "
            f"{self.usage['submission']} jobs in {self.seconds:.0f} s, the quota needs {allowed:.0f} s; "
            f"{refused.get('submission', 0)} create requests and {refused.get('management', 0)} reads got a "
            f"429; {self.usage['management']} reads"
        )
        return "\n".join([text, *(f"BAD {each}" for each in self.wrong)])


def quota_seconds(tasks: int, window: float) -> float:
    """Return how long it takes to create this many jobs at the rate of the quota."""
    return tasks / A_MINUTE * window


def checked(
    name: str,
    tasks: int,
    seconds: float,
    window: float,
    usage: dict[str, Any],
    wrong: list[str],
    *,
    is_timed: bool = True,
) -> Result:
    """Check the number of jobs and the time."""
    if usage["submission"] != tasks:
        wrong.append(f"{usage['submission']} jobs")
    longest = quota_seconds(tasks, window) * MARGIN
    if is_timed and seconds > longest:
        wrong.append(f"it took {seconds:.0f} s, more than {longest:.0f} s")
    return Result(name, tasks, seconds, window, usage, tuple(wrong))


def main() -> int:
    """Run the load test; exit code 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.quotas", description=__doc__)
    parser.add_argument("--tasks", type=int, default=500, help="operators in threads (default: 500)")
    parser.add_argument("--airflow-tasks", type=int, default=24, help="tasks in real Airflow (default: 24)")
    parser.add_argument(
        "--window",
        type=float,
        default=60.0,
        help="seconds of a minute of the quota, in threads (default: 60)",
    )
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="gemini-batch-quotas-"))
    print(f"logs in {directory}", flush=True)
    results = []
    if arguments.tasks:
        results.append(in_threads(directory / "threads", arguments.tasks, arguments.window))
        print(results[-1], flush=True)
    if arguments.airflow_tasks:
        results.append(in_airflow(directory / "airflow", arguments.airflow_tasks))
        print(results[-1], flush=True)
    return 1 if any(each.wrong for each in results) else 0


def upload(addresses: StackAddresses, tasks: int) -> None:
    """Create the bucket, and an input for each task."""
    call(f"{addresses.storage_url}/storage/v1/b?project={addresses.project}", {"name": BUCKET})
    url = f"{addresses.storage_url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media"
    for index in range(tasks):
        call(f"{url}&name=quotas%2F{index}.jsonl", raw=json.dumps(_LINE).encode() + b"\n")


def use_up_quota(addresses: StackAddresses, jobs: int) -> None:
    """Create jobs that are not of these tasks."""
    parent = f"projects/{addresses.project}/locations/{LOCATION}"
    job = {
        "displayName": "another client",
        "model": "publishers/google/models/gemini-3.5-flash",
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": [f"gs://{BUCKET}/quotas/0.jsonl"]},
        },
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": f"gs://{BUCKET}/others"},
        },
    }
    for _ in range(jobs):
        call(f"{addresses.vertex_url}/v1/{parent}/batchPredictionJobs", job)


def usage_of(addresses: StackAddresses) -> dict[str, Any]:
    """Return how many calls of each kind Vertex AI has got."""
    return call(f"{addresses.vertex_url}/_emulator/usage")


def in_threads(directory: Path, tasks: int, window: float) -> Result:
    """Run the operators in threads of this process."""
    from airflow_gemini_batch.testing import separate_airflow

    separate_airflow()
    from airflow_gemini_batch.jobs import quota
    from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
    from tests.task_instance import TaskInstance, execute

    quota.WAIT *= window / 60
    run_id = uuid.uuid4().hex
    starts = threading.Barrier(tasks)

    def submit(index: int) -> str:
        operator = GeminiBatchSubmitOperator(
            task_id="submit",
            model="gemini-3.5-flash",
            input_uri=f"gs://{BUCKET}/quotas/{index}.jsonl",
            output_uri=f"gs://{BUCKET}/quotas/output",
            location="global",
        )
        starts.wait()
        try:
            execute(operator, {"ti": TaskInstance("submit", run_id, map_index=index)})
        except Exception as error:
            return f"task {index} failed: {type(error).__name__}: {error}"
        return ""

    with LocalStack(directory, pace="seconds:3600", quotas=window) as addresses:
        os.environ.update(addresses.environment())
        upload(addresses, tasks)
        started = time.monotonic()
        with ThreadPoolExecutor(tasks) as pool:
            failed = list(filter(None, pool.map(submit, range(tasks))))
        seconds = time.monotonic() - started
        usage = usage_of(addresses)
    return checked("operators in threads", tasks, seconds, window, usage, failed)


def in_airflow(directory: Path, tasks: int) -> Result:
    """Run one mapped task in real Airflow, all of its instances at once."""
    from .airflow_processes import Airflow
    from .load import temporary_postgresql

    window = 60.0
    directory.mkdir()
    with (
        temporary_postgresql(directory / "postgresql") as database,
        Airflow(
            directory,
            pace="seconds:3600",
            parallelism=tasks,
            dag_ids=(DAG_ID,),
            timeout=300,
            database=database,
            quotas=window,
        ) as airflow,
    ):
        upload(airflow.addresses, tasks)
        path = f"dags/{DAG_ID}/dagRuns"
        use_up_quota(airflow.addresses, A_MINUTE - tasks // 3)
        started = time.monotonic()
        airflow.call(path, {"dag_run_id": "load", "logical_date": None, "conf": {"tasks": tasks}})
        limit = started + 3 * quota_seconds(tasks, window) + 600
        while airflow.call(f"{path}/load")["state"] not in ("success", "failed") and time.monotonic() < limit:
            time.sleep(2)
        seconds = time.monotonic() - started
        usage = usage_of(airflow.addresses)
        # The API returns 100 at most.
        pages = range(0, tasks + 1, 100)
        instances = [
            each
            for offset in pages
            for each in airflow.call(f"{path}/load/taskInstances?limit=100&offset={offset}")["task_instances"]
        ]
    wrong = [
        f"task {each['task_id']} {each['map_index']}: {each['state']}, try {each['try_number']}"
        for each in instances
        if each["state"] != "success" or each["try_number"] != 1
    ]
    usage["submission"] -= A_MINUTE - tasks // 3
    # The processors are the limit here, so the time says nothing about the quota.
    return checked("in Airflow", tasks, seconds, window, usage, wrong, is_timed=False)


if __name__ == "__main__":
    sys.exit(main())
