"""A function returns prompts and the answers land in a table: as a single task, and as a task group.

The single task does everything. The group has a task for each step, and resubmits failed requests.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_gemini_batch.task_groups import gemini_batch

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
    "product": Param("lamp", type="string", description="What the reviews are about"),
}

REVIEWS = {
    "review-1": "Arrived two days late, but the colors are lovely.",
    "review-2": "Broke on the first day. I want my money back!",
    "review-3": "Does what it says. {{ nothing }} to add.",
}
ANSWER = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "enum": ["happy", "mixed", "unhappy"]},
        "wants_refund": {"type": "boolean"},
    },
    "required": ["mood", "wants_refund"],
}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
    description="Reads customer reviews in a single task",
    doc_md=__doc__,
    params=PARAMS,
)
def gemini_batch_decorator():
    @task
    def reviews() -> dict[str, str]:
        return REVIEWS

    @task.gemini_batch(
        model="{{ params.model }}",
        location="{{ params.location }}",
        staging_uri="gs://{{ params.bucket }}/decorator",
        system_instruction="You read customer reviews.",
        response_schema=ANSWER,
        results_table="{{ params.dataset }}.reviews",
    )
    def read(reviews: dict[str, str]):
        for key, text in reviews.items():
            yield key, f"What does this customer feel?\n\n{text}"

    read(reviews())


def descriptions(product: str):
    for key, text in REVIEWS.items():
        yield {"key": key, "text": text, "product": product}


# Airflow shows these names instead of the map indexes of the tasks.
NAMED = {"map_index_template": "job {{ ti.map_index + 1 }}"}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
    description="Reads customer reviews in a task group, with retries of failed requests",
    doc_md=__doc__,
    params=PARAMS,
)
def gemini_batch_task_group():
    gemini_batch(
        descriptions,
        op_kwargs={"product": "{{ params.product }}"},
        model="{{ params.model }}",
        location="{{ params.location }}",
        staging_uri="gs://{{ params.bucket }}/group",
        template="About our {product}, a customer wrote: {text}",
        response_schema=ANSWER,
        results_table="{{ params.dataset }}.reviews_of_group",
        max_retry_rounds=2,
        submit=NAMED,
        wait=NAMED,
        land=NAMED,
        retry=NAMED,
    )


gemini_batch_decorator()
gemini_batch_task_group()
