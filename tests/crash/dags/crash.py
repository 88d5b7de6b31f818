"""The DAGs of the crash matrix: a job from its requests to its rows, with each way of waiting for it.

Each job has a label with the task run that asked for it.
"""

from __future__ import annotations

import inspect
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.decorators.gemini_batch import gemini_batch_task
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

# Each run has a folder and a table with its name.
FOLDER = "gs://crash/{{ run_id }}"
ARGUMENTS = {"retries": 6, "retry_delay": timedelta(0)}


TABLE = "crash.{{ run_id }}"


def submit(labels=None, input_uri=f"{FOLDER}/requests.jsonl", model="gemini-3.5-flash", **arguments):
    return GeminiBatchSubmitOperator(
        task_id="submit",
        model=model,
        input_uri=input_uri,
        output_uri=f"{FOLDER}/output",
        location="global",
        poll_interval=1,
        labels={"asked_by": "{{ run_id }}", **(labels or {})},
        **arguments,
    )


def land(job_name, **arguments):
    return GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=job_name, destination_table=TABLE, pool="landing", **arguments
    )


def continuing(operator):
    """Land what a job has completed, where the operator has the parameter."""
    has = "on_incomplete" in inspect.signature(operator).parameters
    return {"on_incomplete": "continue"} if has else {}


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
        model="gemini-3.5-flash",
        staging_uri=FOLDER,
        location="global",
        poll_interval=1,
        labels={"asked_by": "{{ run_id }}"},
    )
    def build():
        return [{"key": f"row-{number}", "prompt": f"row-{number}"} for number in range(6)]

    land(build())

with dag("crash_query"):
    requests = BigQueryToGeminiBatchRequestsOperator(
        task_id="build",
        sql="SELECT CONCAT('row-', CAST(n AS STRING)) AS key, 'ask' AS prompt "
        "FROM UNNEST([0, 1, 2, 3, 4, 5]) AS n",
        destination_table=f"{TABLE}_requests",
        location="global",
        pool="landing",
    )
    land(submit({"emulator-pace": "immediate"}, requests.output).output, write_mode="merge")

with dag("crash_bad_end"):
    # The job expires after four of six rows; the retry asks for the other two.
    job = submit(
        {"emulator-ends": "expired-4"}, wait_for_completion=True, **continuing(GeminiBatchSubmitOperator)
    )
    land(job.output) >> GeminiBatchRetryFailedOperator(
        task_id="retry",
        results_table=TABLE,
        job_name=job.output,
        poll_interval=1,
        labels={"asked_by": "{{ run_id }}-retry"},
        pool="landing",
    )

with dag("crash_images"):
    done = submit({"emulator-pace": "immediate"}, model="gemini-3.1-flash-image")
    land(done.output, write_mode="truncate", media_uri_prefix=f"{FOLDER}/images")

with dag("crash_slow"):
    # The proxy lets BigQuery take longer than a task waits on its worker.
    land(submit(labels={"emulator-pace": "immediate"}).output)

with dag("crash_listener"):
    # The plugin slow_listener.py holds the process of this task longer than Airflow allows.
    job = submit({"emulator-pace": "seconds-15"})
    wait = GeminiBatchJobSensor(task_id="wait", job_name=job.output, poll_interval=1)
    wait >> land(job.output)
