"""A function returns prompts and the answers land in a table: as a single task, and as a task group."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import dag, task

from airflow_gemini_batch.task_groups import gemini_batch

BUCKET = os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket")
DATASET = os.environ.get("GEMINI_BATCH_DATASET", "my_dataset")
LOCATION = os.environ.get("GOOGLE_CLOUD_LOCATION", "global")

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


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["gemini-batch"])
def gemini_batch_decorator():
    @task
    def reviews() -> dict[str, str]:
        return REVIEWS

    @task.gemini_batch(
        model="gemini-3.5-flash",
        location=LOCATION,
        staging_uri=f"gs://{BUCKET}/decorator",
        system_instruction="You read customer reviews.",
        response_schema=ANSWER,
        results_table=f"{DATASET}.reviews",
    )
    def read(reviews: dict[str, str]):
        for key, text in reviews.items():
            yield key, f"What does this customer feel?\n\n{text}"

    read(reviews())


def descriptions(ds: str):
    for key, text in REVIEWS.items():
        yield {"key": key, "text": text, "day": ds}


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["gemini-batch"])
def gemini_batch_task_group():
    gemini_batch(
        descriptions,
        model="gemini-3.5-flash",
        location=LOCATION,
        staging_uri=f"gs://{BUCKET}/group",
        template="On {day} a customer wrote: {text}",
        response_schema=ANSWER,
        results_table=f"{DATASET}.reviews_of_group",
        max_retry_rounds=2,
    )


gemini_batch_decorator()
gemini_batch_task_group()
