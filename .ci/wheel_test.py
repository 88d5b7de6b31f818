"""A test of a user's DAG with the local stack; wheel_test.sh runs it outside the checkout."""

import os
from datetime import datetime

import pytest

from airflow_gemini_batch.local_stack.stack import LocalStack

LINE = '{"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}}\n'


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    os.environ["AIRFLOW_HOME"] = str(home)
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    with LocalStack(tmp_path_factory.mktemp("stack")) as addresses:
        os.environ.update(addresses.environment())
        from airflow.utils.db import initdb

        initdb()
        yield addresses


def test_submit_wait_and_land(stack):
    from airflow.sdk import DAG
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    from airflow_gemini_batch.operators.gemini_batch import (
        GeminiBatchResultsToBigQueryOperator,
        GeminiBatchSubmitOperator,
    )
    from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

    bucket = storage.Client(stack.project, AnonymousCredentials()).create_bucket("bucket")
    bucket.blob("in.jsonl").upload_from_string(LINE)
    client = bigquery.Client(stack.project, AnonymousCredentials())
    client.create_dataset("dataset")
    with DAG("user", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
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
    assert dag.test().state == "success"
    rows = client.query("SELECT key, status FROM dataset.answers").result()
    assert [(row.key, row.status) for row in rows] == [("a", "succeeded")]
