"""The DAG of the load test, run 300 times at once."""

from __future__ import annotations

import inspect
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)

FOLDER = "gs://crash/{{ run_id }}"
has_parameter = "on_incomplete" in inspect.signature(GeminiBatchSubmitOperator).parameters
continuing = {"on_incomplete": "continue"} if has_parameter else {}

with DAG(
    "load",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1000,
    max_active_tasks=1000,
    default_args={"retries": 12, "retry_delay": timedelta(seconds=5)},
):
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri=f"{FOLDER}/requests.jsonl",
        output_uri=f"{FOLDER}/output",
        location="global",
        wait_for_completion=True,
        poll_interval=20,
        labels={"asked_by": "{{ run_id }}"},
        **continuing,
    )
    GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=submit.output,
        destination_table="crash.{{ run_id }}",
        pool="landing",
    )
