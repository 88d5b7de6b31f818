"""Jobs, and the tables that their results are landed in."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.decorators.gemini_batch import gemini_batch_task
from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from tests.measure import overpaid
from tests.task_instance import TaskInstance

from .tasks import Task, bill, labels, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.faults.plan import FaultPlan
    from airflow_gemini_batch.emulator.server import Emulator


@dataclass
class Tables:
    """The local stack, with a bucket and a dataset in the region of the jobs."""

    vertex: Emulator
    storage: storage.Client
    bigquery: bigquery.Client
    bucket: str
    dataset: str

    def table(self, name: str = "answers") -> str:
        """Return the full name of a new table."""
        return f"{self.dataset}.{name}_{uuid.uuid4().hex[:8]}"

    def put(self, requests: Iterable[tuple[str, str]]) -> str:
        """Store requests, each a key and a prompt; return the URI."""
        name = f"{uuid.uuid4().hex}.jsonl"
        lines = (
            json.dumps({"key": key, "request": {"contents": [{"role": "user", "parts": [{"text": text}]}]}})
            for key, text in requests
        )
        self.storage.bucket(self.bucket).blob(name).upload_from_string("\n".join(lines) + "\n")
        return f"gs://{self.bucket}/{name}"

    def submit(
        self,
        requests: Sequence[tuple[str, str]],
        asked_by: str = "submit",
        plan: FaultPlan = NO_FAULTS,
        **more: Any,
    ) -> str:
        """Run a job under a plan to its end; return its name."""
        self.vertex.faults = plan
        name: str = self.submit_task(self.put(requests), asked_by, **more).run(tries=1)
        self.vertex.faults = NO_FAULTS
        return name

    def submit_task(self, input_uri: str, asked_by: str = "submit", pace: str = "", **more: Any) -> Task:
        """Return the task that submits a job and waits for it."""
        arguments: dict[str, Any] = {
            "model": "gemini-3.5-flash",
            "input_uri": input_uri,
            "output_uri": f"gs://{self.bucket}/out",
            "location": "global",
            "labels": labels(asked_by, pace=pace),
            "wait_for_completion": True,
            "poll_interval": 0.01,
            **more,
        }
        ti = TaskInstance(run_id=uuid.uuid4().hex)
        return Task(lambda: GeminiBatchSubmitOperator(task_id="submit", **arguments), ti)

    def ask(
        self,
        function: Callable[[], Any],
        asked_by: str = "ask",
        *,
        pace: str = "",
        index: int = -1,
        run_id: str = "",
        **more: Any,
    ) -> Task:
        """Return the task that makes a job of the prompts that a function returns."""
        arguments: dict[str, Any] = {
            "task_id": "ask",
            "model": "gemini-3.5-flash",
            "staging_uri": f"gs://{self.bucket}/staging",
            "location": "global",
            "labels": labels(asked_by, pace=pace),
            "poll_interval": 0.01,
            "usage_view": False,
            **more,
        }

        def make() -> Any:
            with DAG("dag", schedule=None):
                return gemini_batch_task(function, **arguments)().operator

        return Task(make, TaskInstance("ask", run_id or uuid.uuid4().hex, map_index=index))

    def land(
        self, job: str | list[str], table: str, *, task_id: str = "land", run_id: str = "run", **more: Any
    ) -> Task:
        """Return the task that lands a job, or several."""
        arguments = {"job_name": job, "destination_table": table, "usage_view": False, **more}
        ti = TaskInstance(task_id, run_id)
        return Task(lambda: GeminiBatchResultsToBigQueryOperator(task_id=task_id, **arguments), ti)

    def retry(self, table: str, job: str | None, asked_by: str = "retry", **more: Any) -> Task:
        """Return the task that asks the failures of a job, or of a whole table, again."""
        arguments: dict[str, Any] = {
            "results_table": table,
            "job_name": job,
            "labels": labels(asked_by, pace=more.pop("pace", "")),
            "poll_interval": 0.01,
            "usage_view": False,
            **more,
        }
        ti = TaskInstance("retry", asked_by)
        return Task(lambda: GeminiBatchRetryFailedOperator(task_id="retry", **arguments), ti)

    def rows(self, table: str) -> list[Any]:
        """Return the rows of a results table."""
        query = f"SELECT key, status, job_name, text, TO_JSON_STRING(request) AS request FROM `{table}`"
        return list(self.bigquery.query_and_wait(query))

    def failures(self, table: str) -> list[Any]:
        """Return the rows of an error table that may be asked again."""
        query = f"SELECT key, job_name, TO_JSON_STRING(request) AS request FROM `{table}` WHERE retryable"
        return list(self.bigquery.query_and_wait(query))


def wrong_bill(tables: Tables, **asked: int) -> list[str]:
    """Return what the jobs have cost beyond the rows that were asked, when all have ended."""
    settle(tables.vertex)
    return overpaid(bill(tables.vertex), asked)


def prompt_of(row: Any) -> str:
    """Return the prompt of the request in a row."""
    text: str = json.loads(row["request"])["contents"][0]["parts"][0]["text"]
    return text
