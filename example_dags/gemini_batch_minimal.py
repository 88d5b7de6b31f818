from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.operators import gemini_batch

with DAG("gemini_batch_minimal", schedule=None, start_date=datetime(2026, 1, 1)):
    job = gemini_batch.GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-2.5-flash",
        input_uri="gs://my-bucket/requests.jsonl",
        output_uri="gs://my-bucket/results",
        location="us-central1",
        wait_for_completion=True,
    )
    gemini_batch.GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=job.output, destination_table="my_dataset.answers"
    )
