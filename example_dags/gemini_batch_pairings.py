"""Input and output in Cloud Storage or BigQuery: one DAG for each of the four combinations."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

BUCKET = os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket")
DATASET = os.environ.get("GEMINI_BATCH_DATASET", "my_dataset")
PROJECT = os.environ.get("GOOGLE_CLOUD_PROJECT", "my-project")
LOCATION = os.environ.get("GOOGLE_CLOUD_LOCATION", "global")

INPUTS = {
    "gcs": f"gs://{BUCKET}/requests/*.jsonl",
    "bigquery": f"bq://{PROJECT}.{DATASET}.requests",
}
OUTPUTS = {
    "gcs": f"gs://{BUCKET}/results",
    "bigquery": f"bq://{PROJECT}.{DATASET}.predictions_{{{{ ts_nodash | lower }}}}",
}

for source, input_uri in INPUTS.items():
    for target, output_uri in OUTPUTS.items():
        with DAG(
            f"gemini_batch_{source}_to_{target}",
            schedule=None,
            start_date=datetime(2026, 1, 1),
            catchup=False,
            tags=["gemini-batch"],
        ):
            submit = GeminiBatchSubmitOperator(
                task_id="submit",
                model="gemini-3.5-flash-lite",
                input_uri=input_uri,
                output_uri=output_uri,
                location=LOCATION,
                labels={"team": "data", "pairing": f"{source}-{target}"},
            )
            wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
            land = GeminiBatchResultsToBigQueryOperator(
                task_id="land",
                job_name=submit.output,
                destination_table=f"{DATASET}.answers_{source}_{target}",
            )
            wait >> land
