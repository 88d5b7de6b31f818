"""The smallest DAG: it submits a job, waits for it, and lands the results."""

from airflow.providers.common.compat.sdk import DAG  # works on Airflow 2.11 and 3; airflow.sdk only on 3

from airflow_gemini_batch.operators.gemini_batch import GeminiBatchResultsToBigQueryOperator as Land
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator as Submit

with DAG("gemini_batch_minimal", schedule=None, description="One job, one table", doc_md=__doc__):
    job = Submit(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri="gs://my-bucket/requests.jsonl",
        output_uri="gs://my-bucket/results",
        location="global",
        wait_for_completion=True,
    )
    Land(task_id="land", job_name=job.output, destination_table="my_dataset.answers")
