"""A small pipeline for the tests of lineage, as a user would write it."""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator

DATASET, BUCKET = os.environ["LINEAGE_DATASET"], os.environ["LINEAGE_BUCKET"]
SECRET = "Summarise the complaint: "

with DAG("lineage_pipeline", schedule=None) as dag:
    requests = BigQueryToGeminiBatchRequestsOperator(
        task_id="requests",
        sql=f"SELECT id AS key, CONCAT('{SECRET}', text) AS prompt FROM `{DATASET}.tickets`",
        destination_table=f"{DATASET}.requests",
        location="global",
    )
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri=requests.output,
        output_uri=f"gs://{BUCKET}/out",
        location="global",
        wait_for_completion=True,
        poll_interval=0.2,
    )
    GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=submit.output, destination_table=f"{DATASET}.answers"
    )
