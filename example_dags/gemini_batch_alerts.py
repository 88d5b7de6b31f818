"""Tell somebody when a task fails, and what each run has landed and cost.

`GeminiBatchNotification` says it in one line, and gives the facts as a small dict. Both contain no prompts.
With Airflow's notifiers for Slack, mail and others, use `with_notification`; see docs/events.md.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_gemini_batch.notifications import GeminiBatchNotification
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)

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


def tell(context):
    """Log it; a function that posts `told.text` to a chat has the same two lines."""
    told = GeminiBatchNotification.of(context)
    logging.getLogger(__name__).warning("%s %s", told.text, json.dumps(dict(told.facts)))


with DAG(
    "gemini_batch_alerts",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
    description="Tells of failures, and of what was landed",
    doc_md=__doc__,
    params=PARAMS,
    default_args={"on_failure_callback": tell},
):
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="{{ params.model }}",
        input_uri="gs://{{ params.bucket }}/requests.jsonl",
        output_uri="gs://{{ params.bucket }}/results",
        location="{{ params.location }}",
        wait_for_completion=True,
    )
    GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=submit.output,
        destination_table="{{ params.dataset }}.answers_told",
        on_success_callback=tell,
    )
