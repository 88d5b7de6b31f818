"""The DAGs of the crash matrix: a job from its requests to its rows, with each way of waiting for it."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.decorators.gemini_batch import gemini_batch_task
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

# Each run has a folder and a table with its name.
FOLDER = "gs://crash/{{ run_id }}"
ARGUMENTS = {"retries": 6, "retry_delay": timedelta(0)}


def submit(**arguments):
    return GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-2.5-flash",
        input_uri=f"{FOLDER}/requests.jsonl",
        output_uri=f"{FOLDER}/output",
        location="us-central1",
        poll_interval=1,
        **arguments,
    )


def land(job_name):
    return GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=job_name, destination_table="crash.{{ run_id }}", pool="landing"
    )


def dag(name):
    return DAG(
        name,
        schedule=None,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=64,
        default_args=ARGUMENTS,
    )


with dag("crash_short"):
    # The first poll of the job shows that it has ended.
    land(submit(labels={"emulator-pace": "immediate"}).output)

with dag("crash_sensor"):
    job = submit()
    wait = GeminiBatchJobSensor(task_id="wait", job_name=job.output, poll_interval=1)
    wait >> land(job.output)

with dag("crash_waiting"):
    land(submit(wait_for_completion=True).output)

with dag("crash_building"):

    @gemini_batch_task(
        task_id="submit",
        model="gemini-2.5-flash",
        staging_uri=FOLDER,
        location="us-central1",
        poll_interval=1,
    )
    def build():
        return [{"key": f"row-{number}", "prompt": f"row-{number}"} for number in range(6)]

    land(build())
