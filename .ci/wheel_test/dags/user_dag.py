from datetime import datetime

from airflow.sdk import DAG  # on Airflow 2.11: from airflow import DAG

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

with DAG("user_dag", schedule=None, start_date=datetime(2026, 1, 1)):
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri="gs://my-bucket/requests.jsonl",
        output_uri="gs://my-bucket/results",
        location="global",
    )
    wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=submit.output, destination_table="my_dataset.answers"
    )
    wait >> land  # submit.output makes both depend on submit, but land must also come after wait
