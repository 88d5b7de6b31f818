"""Resubmit requests that have no answer yet and may get one: at the end, each has one row.

A job may expire, or some of its requests may fail for a passing reason. Answers are landed, and not paid
again. The task `retry` asks for the rest, in up to three rounds.

On the local stack, the first job expires after twelve requests, since a label asks the emulator for it. On
Google Cloud, it is a label like any other.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator

PARAMS = {
    "model": Param("gemini-3.5-flash", type="string", description="Model that answers"),
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
}

with DAG(
    "gemini_batch_retry",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
    description="Resubmits requests that have no answer yet",
    doc_md=__doc__,
    params=PARAMS,
):
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="{{ params.model }}",
        input_uri="gs://{{ params.bucket }}/requests.jsonl",
        output_uri="gs://{{ params.bucket }}/results",
        location="{{ params.location }}",
        labels={"emulator-ends": "expired-12"},
        wait_for_completion=True,
        # Without it, the task fails when the job expires, so that you decide whether to pay for the rest.
        on_incomplete="continue",
    )
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=submit.output, destination_table="{{ params.dataset }}.answers_retried"
    )
    retry = GeminiBatchRetryFailedOperator(
        task_id="retry",
        job_name=submit.output,
        results_table="{{ params.dataset }}.answers_retried",
        max_rounds=3,
        labels={"round": "retry"},  # Instead of the labels of the first job.
        min_success_ratio=0.95,
    )
    land >> retry
