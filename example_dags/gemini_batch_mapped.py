"""One job per file: the files are listed at run time, and each file has a group of tasks.

Each group is named after its file. A job that fails does not hold back the others.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import Param, dag, task, task_group

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

PARAMS = {
    "model": Param("gemini-3.5-flash-lite", type="string", description="Model that answers"),
    "location": Param(
        os.environ.get("GOOGLE_CLOUD_LOCATION", "global"),
        type="string",
        description="global, us, eu or a region, where the model is offered",
    ),
    "bucket": Param(
        os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket"), type="string", description="Bucket of the job"
    ),
    "dataset": Param(
        os.environ.get("GEMINI_BATCH_DATASET", "my_dataset"),
        type="string",
        description="Dataset of the results",
    ),
    "folder": Param("requests/", type="string", description="Folder of the files in the bucket"),
}
# Airflow shows the name of the file instead of the map index.
FILE = "{{ ti.xcom_pull(task_ids='files')[ti.map_index].rpartition('/')[2] }}"


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
    description="Runs one job for each file of a folder",
    doc_md=__doc__,
    params=PARAMS,
)
def gemini_batch_mapped():
    @task
    def files(bucket: str, folder: str) -> list[str]:
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        names = GCSHook().list(bucket, prefix=folder)
        return [f"gs://{bucket}/{name}" for name in names if name.endswith(".jsonl")]

    # The group is mapped, not each task: a job that fails does not hold back the others.
    @task_group(default_args={"map_index_template": FILE})
    def job(input_uri: str):
        submit = GeminiBatchSubmitOperator(
            task_id="submit",
            model="{{ params.model }}",
            input_uri=input_uri,
            output_uri="gs://{{ params.bucket }}/results",
            location="{{ params.location }}",
        )
        wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
        land = GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=submit.output, destination_table="{{ params.dataset }}.answers_mapped"
        )
        wait >> land

    job.expand(input_uri=files("{{ params.bucket }}", "{{ params.folder }}"))


gemini_batch_mapped()
