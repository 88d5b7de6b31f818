from __future__ import annotations

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.hooks.lineage import asset_uris
from airflow_gemini_batch.lineage.datasets import MAX_FILES, Dataset, of_job, of_objects, of_table, of_uris
from airflow_gemini_batch.lineage.queries import tables_of
from airflow_gemini_batch.requests.building.manifest import RequestsObject

NAME = JobName("p", "global", "1")


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("gs://bucket/in/a.jsonl", "gs://bucket", "in/a.jsonl"),
        ("gs://bucket/in/part-*.jsonl", "gs://bucket", "in"),
        ("gs://bucket/in/**/part-[0-9].jsonl", "gs://bucket", "in"),
        ("gs://bucket/in/?.jsonl", "gs://bucket", "in"),
        ("gs://bucket/*.jsonl", "gs://bucket", "/"),
        ("gs://bucket/out", "gs://bucket", "out"),
        ("gs://bucket/out/", "gs://bucket", "out"),
        ("gs://bucket", "gs://bucket", "/"),
        ("bq://project.data.table", "bigquery", "project.data.table"),
        ("bq://example.com:project.data.table", "bigquery", "example.com:project.data.table"),
    ],
)
def test_names(uri: str, namespace: str, name: str) -> None:
    assert of_uris([uri]) == (Dataset(namespace, name),)


@pytest.mark.parametrize("uri", ["bq://project.data", "bq://", "", "gs://", "s3://bucket/a"])
def test_what_is_no_full_name_is_left_out(uri: str) -> None:
    assert of_uris([uri]) == ()


def test_many_files_are_their_folders() -> None:
    files = [f"gs://bucket/{n % 2}/{n}.jsonl" for n in range(MAX_FILES + 1)]
    assert of_uris(files) == (Dataset("gs://bucket", "0"), Dataset("gs://bucket", "1"))
    assert len(of_uris(files[:-1])) == MAX_FILES


def test_objects_have_their_rows_and_sizes() -> None:
    objects = [RequestsObject(f"gs://bucket/{n}.jsonl", 3, 100, "", "a", "b") for n in range(MAX_FILES + 1)]
    assert of_objects(objects[:1]) == (Dataset("gs://bucket", "0.jsonl", rows=3, size=100),)
    assert of_objects(objects) == (Dataset("gs://bucket", "/"),)


def test_the_output_of_a_job_has_the_same_name_in_each_run() -> None:
    """The service makes a new folder for each job; as a dataset, it would connect no two tasks."""
    job = BatchJob(
        NAME,
        JobState.SUCCEEDED,
        input_uris=("gs://bucket/in.jsonl",),
        output_uri="gs://bucket/out",
        output_location="gs://bucket/out/prediction-model-2026-11-28T10:00:00Z",
    )
    assert of_job(job) == ((Dataset("gs://bucket", "in.jsonl"),), (Dataset("gs://bucket", "out"),))


def test_the_output_in_a_dataset_is_the_table_once_it_is_known() -> None:
    job = BatchJob(NAME, JobState.RUNNING, input_uris=("bq://p.d.requests",), output_uri="bq://p.d")
    assert of_job(job) == ((of_table("p.d.requests"),), ())
    done = BatchJob(NAME, JobState.SUCCEEDED, output_uri="bq://p.d", output_location="bq://p.d.predictions")
    assert of_job(done)[1] == (of_table("p.d.predictions"),)


def test_the_tables_of_a_query() -> None:
    sql = """WITH new AS (SELECT * FROM `my-project.crm.tickets`)
        SELECT id AS key, CONCAT('Summarise: ', text) AS prompt FROM new JOIN other.labels USING (id)"""
    assert tables_of(sql, "own") == (of_table("my-project.crm.tickets"), of_table("own.other.labels"))
    assert tables_of(sql, None) == (of_table("my-project.crm.tickets"),)


@pytest.mark.parametrize("sql", ["", "SELECT FROM WHERE", "no query", "SELECT 1", "SELECT * FROM t"])
def test_a_query_whose_tables_are_not_known(sql: str) -> None:
    assert tables_of(sql, "own") == ()


def test_uris_of_assets_are_those_of_the_google_provider() -> None:
    from airflow.providers.google.assets.bigquery import create_asset as table
    from airflow.providers.google.assets.gcs import create_asset as file

    found = asset_uris(of_uris(["gs://bucket/in/a.jsonl", "bq://project.data.table"]))
    expected = [
        file(bucket="bucket", key="in/a.jsonl"),
        table(project_id="project", dataset_id="data", table_id="table"),
    ]
    assert found == [each.uri for each in expected]
