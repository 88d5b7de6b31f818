"""One job per file: the files are listed at run time, and each file has a group of tasks."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import dag, task, task_group

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

BUCKET = os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket")
DATASET = os.environ.get("GEMINI_BATCH_DATASET", "my_dataset")
LOCATION = os.environ.get("GOOGLE_CLOUD_LOCATION", "global")


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["gemini-batch"])
def gemini_batch_mapped():
    @task
    def files() -> list[str]:
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        names = GCSHook().list(BUCKET, prefix="requests/")
        return [f"gs://{BUCKET}/{name}" for name in names if name.endswith(".jsonl")]

    # The group is mapped, not each task: a job that fails does not hold back the others.
    @task_group
    def job(input_uri: str):
        submit = GeminiBatchSubmitOperator(
            task_id="submit",
            model="gemini-3.5-flash-lite",
            input_uri=input_uri,
            output_uri=f"gs://{BUCKET}/results",
            location=LOCATION,
        )
        wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
        land = GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=submit.output, destination_table=f"{DATASET}.answers_mapped"
        )
        wait >> land

    job.expand(input_uri=files())


gemini_batch_mapped()
