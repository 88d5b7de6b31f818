"""Resubmit failed requests that may succeed: at the end, every request has one row, most with an answer."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator

BUCKET = os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket")
DATASET = os.environ.get("GEMINI_BATCH_DATASET", "my_dataset")
LOCATION = os.environ.get("GOOGLE_CLOUD_LOCATION", "global")

with DAG(
    "gemini_batch_retry",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
):
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri=f"gs://{BUCKET}/requests.jsonl",
        output_uri=f"gs://{BUCKET}/results",
        location=LOCATION,
        wait_for_completion=True,
    )
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=submit.output, destination_table=f"{DATASET}.answers_retried"
    )
    retry = GeminiBatchRetryFailedOperator(
        task_id="retry",
        job_name=submit.output,
        results_table=f"{DATASET}.answers_retried",
        max_rounds=3,
    )
    land >> retry
