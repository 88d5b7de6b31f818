"""A query returns prompts and the answers land in a table; a nightly run submits only new rows.

Rows whose key has succeeded in the table `tickets` are left out. If none is left, the tasks are skipped.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

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
# The run ID without what the name of a table cannot have; a run started by hand may have no logical date.
RUN = "{{ run_id | replace(':', '') | replace('+', '') | replace('.', '') }}"

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
    description="Routes support tickets that a query returns",
    doc_md=__doc__,
    params=PARAMS,
):
    requests = BigQueryToGeminiBatchRequestsOperator(
        task_id="requests",
        sql=SQL,
        destination_table="{{ params.dataset }}.ticket_requests_" + RUN,
        location="{{ params.location }}",
        system_instruction="You route customer support tickets.",
        response_schema=ANSWER,
        only_new_against="{{ params.dataset }}.tickets",
    )
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="{{ params.model }}",
        input_uri=requests.output,
        output_uri="gs://{{ params.bucket }}/tickets",
        location="{{ params.location }}",
    )
    wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=submit.output,
        destination_table="{{ params.dataset }}.tickets",
        response_schema=ANSWER,
    )
    wait >> land
