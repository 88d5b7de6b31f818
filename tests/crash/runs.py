"""One run of a DAG, and what must be true after it has ended, whatever failed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.local_stack.rest import call, query
from airflow_gemini_batch.local_stack.stack import REGION
from tests.measure import ASKED_BY, charges, overpaid, wrong_rows

if TYPE_CHECKING:
    from .airflow_processes import Airflow

BUCKET = DATASET = "crash"
ROWS = 6
_INVALID_ARGUMENT = 3


@dataclass(frozen=True)
class Verdict:
    """The result of a run.

    :param jobs: number of jobs created
    :param charged: rows charged, of all jobs
    :param rows: number of rows in the table
    :param retries: of all tasks of the run
    :param wrong: failed checks; empty if all passed
    """

    state: str
    jobs: int
    charged: int
    rows: int
    retries: int
    wrong: tuple[str, ...] = field(default_factory=tuple)


def create_storage(airflow: Airflow) -> None:
    """Create the bucket and the dataset."""
    addresses = airflow.addresses
    call(f"{addresses.storage_url}/storage/v1/b?project={addresses.project}", {"name": BUCKET})
    dataset = {"projectId": addresses.project, "datasetId": DATASET}
    url = f"{addresses.bigquery_url}/bigquery/v2/projects/{addresses.project}/datasets"
    call(url, {"datasetReference": dataset, "location": REGION})


def keys(count: int = ROWS) -> list[str]:
    """The keys of a run's requests."""
    return [f"row-{number}" for number in range(count)]


class Run:
    """A run of one of the DAGs, with its own requests.

    :param name: of the run, its folder and its table
    """

    def __init__(self, airflow: Airflow, dag_id: str, name: str) -> None:
        self.airflow, self.dag_id, self.name = airflow, dag_id, name
        self._path = f"dags/{dag_id}/dagRuns"

    def start(self) -> None:
        """Upload the requests and start the run."""
        lines = "".join(
            json.dumps({"key": key, "request": {"contents": [{"role": "user", "parts": [{"text": key}]}]}})
            + "\n"
            for key in keys()
        )
        upload = f"{self.airflow.addresses.storage_url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media"
        call(f"{upload}&name={self.name}%2Frequests.jsonl", raw=lines.encode())
        deadline = time.monotonic() + 120
        while not self._is_accepted() and time.monotonic() < deadline:
            time.sleep(1)

    def _is_accepted(self) -> bool:
        """Create the run; False if the request has to be repeated.

        Concurrent writes deadlock: one holds the SQLite lock and waits for the api-server's event loop, on
        which the other waits for the lock. So they are sent one at a time.
        """
        try:
            with self.airflow.writing:
                self.airflow.call(self._path, {"dag_run_id": self.name, "logical_date": None})
        except HTTPError as error:
            if error.code not in (409, 500):
                raise
            return error.code == 409
        except OSError:
            return False
        return True

    @property
    def state(self) -> str:
        """The state of the run in Airflow."""
        return str(self.airflow.call(f"{self._path}/{self.name}")["state"])

    def wait(self, seconds: float, pause: float = 2.0) -> None:
        """Wait until the run has ended."""
        deadline = time.monotonic() + seconds
        while self.state not in ("success", "failed") and time.monotonic() < deadline:
            time.sleep(pause)

    def check(self) -> Verdict:
        """Check Airflow, Vertex AI and the table."""
        tasks = self.airflow.call(f"{self._path}/{self.name}/taskInstances")["task_instances"]
        state, wrong = self.state, []
        if state != "success":
            states = ", ".join(f"{task['task_id']} {task['state']}" for task in tasks)
            wrong.append(f"the run is {state}: {states}")
        jobs = self._jobs()
        bill = charges(jobs, self.airflow.charged_rows())
        running = [charge for charge in bill if not JobState[charge.state].is_terminal]
        wrong += [f"nobody waits for a job that will be charged: {charge}" for charge in running]
        wrong += overpaid(bill, self.asked)
        charged = sum(charge.rows for charge in bill)
        rows = self.rows()
        wrong += wrong_rows([str(key) for key, _, _ in rows], keys())
        if foreign := {name for _, name, _ in rows} - {job["name"] for job in jobs}:
            wrong.append(f"rows of other jobs: {foreign}")
        succeeded = sum(status == "succeeded" for _, _, status in rows)
        if charged > succeeded:
            wrong.append(f"{charged} rows charged, {succeeded} of them in the table")
        if state == "success":
            wrong += self._wrong_counts(succeeded)
        retries = sum(max(task["try_number"] - 1, 0) for task in tasks)
        return Verdict(state, len(jobs), charged, len(rows), retries, tuple(wrong))

    def clear_if_refused(self) -> bool:
        """Clear the tasks that failed because the service refused the input and charged nothing.

        So the message of such a task says; here the cause is gone.
        """
        jobs, charged = self._jobs(), self.airflow.charged_rows()
        refused = [job for job in jobs if job.get("error", {}).get("code") == _INVALID_ARGUMENT]
        if (
            self.state != "failed"
            or not refused
            or refused != jobs
            or any(charged[job["name"]] for job in jobs)
        ):
            return False
        self.airflow.call(
            f"dags/{self.dag_id}/clearTaskInstances",
            {"dag_run_id": self.name, "dry_run": False, "only_failed": True, "reset_dag_runs": True},
        )
        return True

    def _jobs(self) -> list[dict[str, Any]]:
        return [job for by in self.asked for job in self.airflow.jobs(f"labels.{ASKED_BY}={by}")]

    @property
    def asked(self) -> dict[str, int]:
        """The rows that each task run asks for, by its label; the retry of ``crash_bad_end`` asks for two."""
        return {self.name: ROWS, **({f"{self.name}-retry": 2} if self.dag_id == "crash_bad_end" else {})}

    def rows(self) -> list[list[str | None]]:
        """Key, job and status of each row of the table; nothing if there is no table."""
        table = f"`{self.airflow.addresses.project}.{DATASET}.{self.name}`"
        try:
            return query(self.airflow.addresses, f"SELECT key, job_name, status FROM {table}")
        except HTTPError:
            return []

    def _wrong_counts(self, succeeded: int) -> list[str]:
        entry = f"{self._path}/{self.name}/taskInstances/land/xcomEntries/return_value"
        manifest: Any = self.airflow.call(entry)["value"]
        manifest = json.loads(manifest) if isinstance(manifest, str) else manifest
        counted = sum(manifest["counts"].values())
        # A retry replaces rows of the job that was landed.
        is_complete = counted == manifest["input_rows"] == ROWS
        if is_complete and manifest["counts"]["succeeded"] <= succeeded:
            return []
        return [f"the manifest counts {manifest['counts']} of {manifest['input_rows']}"]
