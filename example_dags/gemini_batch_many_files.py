"""Many files in few jobs: the files of a folder are combined into groups that each fit into one job.

The column `source_uri` of the results says which file a row is from.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import Param, dag, task_group

from airflow_gemini_batch.operators.combine import combine_inputs
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
    "folder": Param("requests", type="string", description="Folder of the files in the bucket"),
}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
    description="Combines the files of a folder into few jobs",
    doc_md=__doc__,
    params=PARAMS,
)
def gemini_batch_many_files():
    inputs = combine_inputs(
        "gs://{{ params.bucket }}/{{ params.folder }}/*.jsonl", model="{{ params.model }}"
    )

    @task_group(default_args={"map_index_template": "job {{ ti.map_index + 1 }}"})
    def job(input_uri: list[str]):
        submit = GeminiBatchSubmitOperator(
            task_id="submit",
            model="{{ params.model }}",
            input_uri=input_uri,
            output_uri="gs://{{ params.bucket }}/results",
            location="{{ params.location }}",
        )
        wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
        land = GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=submit.output, destination_table="{{ params.dataset }}.answers_of_files"
        )
        wait >> land

    job.expand(input_uri=inputs)


gemini_batch_many_files()
