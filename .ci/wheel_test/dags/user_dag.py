from datetime import datetime

from airflow.sdk import DAG

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

with DAG("user_dag", schedule=None, start_date=datetime(2026, 1, 1)):
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-2.5-flash",
        input_uri="gs://bucket/in.jsonl",
        output_uri="gs://bucket/out",
        location="us-central1",
    )
    wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=submit.output, destination_table="dataset.answers"
    )
    wait >> land
