"""DAGs that start when a batch job ends, and when its results are landed."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.triggers.job_events import GeminiBatchJobEventTrigger

ended = GeminiBatchJobEventTrigger(location="global", labels={"team": "search"}, poll_interval=1.0)
ENDED = Asset("jobs_of_search", watchers=[AssetWatcher(name="ended", trigger=ended)])
TABLE = "local-project.my_dataset.answers_of_events"


@task
def names(triggering_asset_events=None):
    events = [each for of_asset in triggering_asset_events.values() for each in of_asset]
    jobs = [job for event in events for job in event.extra["payload"]["jobs"]]
    for job in jobs:
        print("started by", job["job_name"], job["state"], job["end_time"])
    return [job["job_name"] for job in jobs]


@task
def landed(triggering_asset_events=None):
    return [each.extra for events in triggering_asset_events.values() for each in events]


with DAG("on_job_end", schedule=[ENDED], catchup=False):
    names()

with DAG("on_answers", schedule=[Asset(f"bigquery://{TABLE.replace('.', '/')}")], catchup=False):
    landed()

with DAG("answers", schedule=None):
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri="gs://my-bucket/requests.jsonl",
        output_uri="gs://my-bucket/results",
        location="global",
        labels={"team": "search"},
        wait_for_completion=True,
    )
    GeminiBatchResultsToBigQueryOperator(task_id="land", job_name=submit.output, destination_table=TABLE)
