"""A query returns prompts and the answers land in a table; a nightly run submits only new rows."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

BUCKET = os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket")
DATASET = os.environ.get("GEMINI_BATCH_DATASET", "my_dataset")
LOCATION = os.environ.get("GOOGLE_CLOUD_LOCATION", "global")

SQL = """
WITH tickets AS (
  SELECT 101 AS id, 'The invoice names the wrong street.' AS text, DATE '2026-11-01' AS day
  UNION ALL SELECT 102, 'How do I change my password?', DATE '2026-11-02'
  UNION ALL SELECT 103, 'The app stops when I upload a photograph.', DATE '2026-11-02'
)
SELECT CONCAT('ticket-', id) AS key, CONCAT('Which team should answer?\\n\\n', text) AS prompt, day
FROM tickets
"""
ANSWER = {
    "type": "object",
    "properties": {
        "team": {"type": "string", "enum": ["billing", "accounts", "bugs"]},
        "urgent": {"type": "boolean"},
    },
    "required": ["team", "urgent"],
}

with DAG(
    "gemini_batch_from_bigquery",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
):
    requests = BigQueryToGeminiBatchRequestsOperator(
        task_id="requests",
        sql=SQL,
        destination_table=f"{DATASET}.ticket_requests_{{{{ ts_nodash | lower }}}}",
        location=LOCATION,
        system_instruction="You route customer support tickets.",
        response_schema=ANSWER,
        only_new_against=f"{DATASET}.tickets",
    )
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri=requests.output,
        output_uri=f"gs://{BUCKET}/tickets",
        location=LOCATION,
    )
    wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=submit.output,
        destination_table=f"{DATASET}.tickets",
        response_schema=ANSWER,
    )
    wait >> land
