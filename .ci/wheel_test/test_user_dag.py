"""Run a DAG on the local stack and query the rows that it has landed."""

import os
from pathlib import Path

import pytest

from airflow_gemini_batch.local_stack.stack import LocalStack

DAGS = Path(__file__).parent / "dags"
LINE = '{"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}}\n'


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    os.environ["AIRFLOW_HOME"] = str(tmp_path_factory.mktemp("airflow"))
    os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAGS)
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    with LocalStack(tmp_path_factory.mktemp("stack")) as addresses:
        # The URLs, the project and the connection google_cloud_default.
        os.environ.update(addresses.environment())
        from airflow.utils.db import initdb

        initdb()
        yield addresses


def test_submit_wait_and_land(stack):
    from airflow.dag_processing.dagbag import DagBag  # on Airflow 2.11: from airflow.models.dagbag
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    # The stack starts empty.
    bucket = storage.Client(stack.project, AnonymousCredentials()).create_bucket("my-bucket")
    bucket.blob("requests.jsonl").upload_from_string(LINE)
    client = bigquery.Client(stack.project, AnonymousCredentials())
    client.create_dataset("my_dataset")

    dags = DagBag(DAGS / "user_dag.py")
    assert not dags.import_errors
    assert dags.dags["user_dag"].test().state == "success"

    rows = client.query("SELECT key, status FROM my_dataset.answers").result()
    assert [(row.key, row.status) for row in rows] == [("a", "succeeded")]
