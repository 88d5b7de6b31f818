"""Input and output in Cloud Storage or BigQuery: one DAG for each of the four combinations.

A batch job that writes to BigQuery needs a table of its own, so the run is part of its name.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, Param

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
    "project": Param(
        os.environ.get("GOOGLE_CLOUD_PROJECT", "my-project"),
        type="string",
        description="Project of the dataset",
    ),
}
# The run ID without what the name of a table cannot have; a run started by hand may have no logical date.
RUN = "{{ run_id | replace(':', '') | replace('+', '') | replace('.', '') }}"

INPUTS = {
    "gcs": "gs://{{ params.bucket }}/requests/*.jsonl",
    "bigquery": "bq://{{ params.project }}.{{ params.dataset }}.requests",
}
OUTPUTS = {
    "gcs": "gs://{{ params.bucket }}/results",
    "bigquery": "bq://{{ params.project }}.{{ params.dataset }}.predictions_" + RUN,
}
PLACES = {"gcs": "Cloud Storage", "bigquery": "BigQuery"}

for source, input_uri in INPUTS.items():
    for target, output_uri in OUTPUTS.items():
        with DAG(
            f"gemini_batch_{source}_to_{target}",
            schedule=None,
            start_date=datetime(2026, 1, 1),
            catchup=False,
            tags=["gemini-batch"],
            description=f"Reads requests from {PLACES[source]}, and the job writes to {PLACES[target]}",
            doc_md=__doc__,
            params=PARAMS,
        ):
            submit = GeminiBatchSubmitOperator(
                task_id="submit",
                model="{{ params.model }}",
                input_uri=input_uri,
                output_uri=output_uri,
                location="{{ params.location }}",
                labels={"team": "data", "pairing": f"{source}-{target}"},
            )
            wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
            land = GeminiBatchResultsToBigQueryOperator(
                task_id="land",
                job_name=submit.output,
                destination_table="{{ params.dataset }}.answers_" + f"{source}_{target}",
            )
            wait >> land
