"""The DAG of the load test of the quotas: one mapped task that submits many jobs at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator

with DAG(
    "quotas",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_tasks=1000,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=5)},
):

    @task
    def inputs(dag_run: Any = None) -> list[str]:
        """Return the input of each job; the run says how many."""
        return [f"gs://crash/quotas/{index}.jsonl" for index in range(dag_run.conf["tasks"])]

    GeminiBatchSubmitOperator.partial(
        task_id="submit",
        model="gemini-3.5-flash",
        output_uri="gs://crash/quotas/output",
        location="global",
        labels={"asked_by": "{{ ti.map_index }}"},
    ).expand(input_uri=inputs())
