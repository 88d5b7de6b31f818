"""``key_field`` and ``key_label`` in the tasks of a job."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_gemini_batch.decorators.gemini_batch import gemini_batch_task
from airflow_gemini_batch.emulator.faults.plan import RowFaultKind
from airflow_gemini_batch.exceptions import InvalidParameterError, KeylessRowsError
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import GeminiBatchRequestsOperator
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from airflow_gemini_batch.requests.keys import KEY_LABEL
from airflow_gemini_batch.task_groups import gemini_batch
from tests.tasks.landed import NOTHING, Landed, expected, request, rows
from tests.variants import variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

Context = Any
JOB = "projects/local-project/locations/us-central1/batchPredictionJobs/1"
# As gateways and the batch files of other services have them.
CUSTOM_ID = [
    '{"custom_id": "req-1", "request": {"contents": [{"role": "user", "parts": [{"text": "one"}]}]}}',
    '{"custom_id": "req-2", "request": {"contents": [{"role": "user", "parts": [{"text": "two"}]}]}}',
]
GATEWAYS = [
    '{"request": {"contents": [{"role": "user", "parts": [{"text": "same"}]}], '
    '"labels": {"litellm_custom_id": "req-1"}}}',
    '{"request": {"contents": [{"role": "user", "parts": [{"text": "same"}]}], '
    '"labels": {"bifrost_custom_id": "b-1"}}}',
]


@pytest.fixture
def run(
    vertex: Emulator, storage_client: storage.Client, bucket: str, context: Context
) -> Callable[..., str]:
    """Submits lines and waits; returns the job's name."""

    def submit(lines: list[str], **more: Any) -> str:
        storage_client.bucket(bucket).blob("in.jsonl").upload_from_string("\n".join(lines) + "\n")
        name: str = GeminiBatchSubmitOperator(
            task_id="submit",
            model="gemini-3.5-flash",
            input_uri=f"gs://{bucket}/in.jsonl",
            output_uri=f"gs://{bucket}/out",
            location="global",
            wait_for_completion=True,
            deferrable=False,
            poll_interval=0.1,
            **more,
        ).execute(context)
        return name

    return submit


@pytest.fixture
def keys(bigquery_client: bigquery.Client, dataset: str, context: Context) -> Callable[..., set[str]]:
    """Lands a job in a table and returns the keys in it."""

    def land(job_name: str, table: str = "answers", **more: Any) -> set[str]:
        name = f"{dataset}.{table}"
        GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=job_name, destination_table=name, **more
        ).execute(context)
        found = list(bigquery_client.query(f"SELECT key, status FROM `{name}`").result())
        assert {row["status"] for row in found} == {"succeeded"}
        assert len(found) == 2
        return {row["key"] for row in found}

    return land


@pytest.mark.any_airflow
def test_a_custom_id(
    run: Callable[..., str], keys: Callable[..., set[str]], caplog: pytest.LogCaptureFixture
) -> None:
    name = run(CUSTOM_ID)
    assert all(len(key) == 64 for key in keys(name))
    assert 'set key_field="custom_id"' in caplog.text
    assert keys(name, key_field="custom_id") == {"req-1", "req-2"}


@pytest.mark.any_airflow
def test_labels_of_gateways(run: Callable[..., str], keys: Callable[..., set[str]]) -> None:
    """Their requests are equal but for the label; a row without it is joined by its request."""
    name = run(GATEWAYS)
    found = keys(name, "litellm", key_field="labels.litellm_custom_id")
    assert "req-1" in found
    others = keys(name, "bifrost", key_field="labels.bifrost_custom_id")
    assert "b-1" in others
    assert all(len(key) == 64 for key in (found | others) - {"req-1", "b-1"})


@pytest.mark.any_airflow
def test_a_merge_of_equal_requests_without_keys_fails_before_it_writes(
    run: Callable[..., str], keys: Callable[..., set[str]]
) -> None:
    lines = [line.replace("two", "one") for line in CUSTOM_ID]
    name = run(lines)
    with pytest.raises(AirflowFailException, match="2 rows have no key") as error:
        keys(name, write_mode="merge")
    assert isinstance(error.value.__cause__, KeylessRowsError)
    assert keys(name, write_mode="merge", key_field="custom_id") == {"req-1", "req-2"}


def test_the_check_before_a_job_uses_the_same_keys(
    run: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    lines = [line.replace("req-2", "req-1") for line in CUSTOM_ID]
    with caplog.at_level(logging.WARNING):
        run(lines)
        assert "duplicate-key" not in caplog.text
        run(lines, key_field="custom_id", force_new="again")
    assert "duplicate-key 1 × at $.custom_id, first in line 2 (key 'req-1')" in caplog.text


def test_a_table_is_checked_by_the_same_keys(
    vertex: Emulator,
    bigquery_client: bigquery.Client,
    dataset: str,
    context: Context,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from google.cloud.bigquery import Dataset

    place = Dataset(f"{dataset}_regional")
    place.location = "us-central1"
    bigquery_client.create_dataset(place)
    asked = f"{dataset}_regional.asked"
    body = """JSON '{"contents": [{"role": "user", "parts": [{"text": "x"}]}]}'"""
    bigquery_client.query(
        f"CREATE TABLE `{asked}` AS SELECT custom_id, meta, {body} AS request FROM UNNEST([STRUCT("
        "'a' AS custom_id, JSON '{\"id\": 1}' AS meta), ('a', JSON '{\"id\": 2}'), ('b', JSON '{}')])"
    ).result()
    said = {
        "custom_id": "1 with the key of another row",
        "meta.id": "1 without a key",
        "key": "",
    }
    for number, (name, message) in enumerate(said.items()):
        caplog.clear()
        GeminiBatchSubmitOperator(
            task_id="submit",
            model="gemini-3.5-flash",
            input_uri=f"bq://{asked}",
            output_uri=f"bq://{dataset}_regional",
            location="global",
            preflight=True,
            key_field=name,
            force_new=str(number),
        ).execute(context)
        assert message in caplog.text
        assert bool(message) is ("The input has 3 rows: " in caplog.text)


@pytest.mark.any_airflow
@pytest.mark.parametrize(
    ("name", "in_files"),
    [variant("custom_id", False), ("metadata.request_id", True), variant("labels.my_id", False)],
)
def test_a_retry_lands_under_the_same_keys(land: Callable[..., Landed], name: str, in_files: bool) -> None:
    """Its rounds have their keys in ``key``, wherever the first job has them."""
    requests = [request(n) for n in range(10)]
    if name.startswith("labels"):
        requests = [{**each, "labels": {"my_id": f"row-{n}"}} for n, each in enumerate(requests)]
    landed = land(key_field=name, requests=requests, regional=not in_files)
    assert set(landed.statuses()) == set(expected())
    manifest = landed.run(rows((RowFaultKind.EXHAUSTED, (1,))), NOTHING)
    assert [(each["asked"], each["succeeded"]) for each in manifest["rounds"]] == [(3, 2), (1, 1)]
    assert landed.statuses() == expected(row_0="failed")
    assert set(landed.errors()) == {"row-0"}
    assert landed.run() == manifest
    assert len(landed.jobs) == 3


@pytest.mark.any_airflow
@pytest.mark.parametrize("key_label", [False, variant(True)])
def test_the_requests_of_a_retry_have_a_label_only_if_asked_for(
    land: Callable[..., Landed], key_label: bool
) -> None:
    landed = land()
    manifest = landed.run(rows((RowFaultKind.EXHAUSTED, (1,))), NOTHING, key_label=key_label)
    assert [(each["asked"], each["succeeded"]) for each in manifest["rounds"]] == [(3, 2), (1, 1)]
    assert landed.statuses() == expected(row_0="failed")
    for job in landed.jobs[1:]:
        table = job["inputConfig"]["bigquerySource"]["inputUri"].removeprefix("bq://")
        for row in landed.bigquery.query(f"SELECT key, TO_JSON_STRING(request) AS r FROM `{table}`").result():
            labels = {KEY_LABEL: row["key"]} if key_label else None
            assert json.loads(row["r"]).get("labels") == labels
    # Landing the first job again brings no failure back that a round has resubmitted.
    GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=landed.job_name, destination_table=landed.table
    ).execute(landed.context)
    assert landed.statuses() == expected(row_0="failed")


@pytest.mark.any_airflow
def test_a_label_that_a_request_has_is_kept(land: Callable[..., Landed]) -> None:
    labels = {"labels": {KEY_LABEL: "mine"}}
    landed = land(requests=[{**request(n), **labels} for n in range(10)])
    landed.run(NOTHING, key_label=True)
    table = landed.jobs[1]["inputConfig"]["bigquerySource"]["inputUri"].removeprefix("bq://")
    found = landed.bigquery.query(f"SELECT JSON_VALUE(request, '$.labels.{KEY_LABEL}') AS l FROM `{table}`")
    assert {row["l"] for row in found.result()} == {"mine"}
    assert landed.statuses() == expected(row_0="failed")


def operators(name: str, bucket: str, dataset: str) -> dict[str, Any]:
    job = {"model": "gemini-3.5-flash", "location": "global", "key_field": name}
    staging = {"staging_uri": f"gs://{bucket}/staging"}
    with DAG("keys", schedule=None):
        decorated = gemini_batch_task(lambda: ["a"], task_id="ask", **job, **staging)().operator
    return {
        "submit": GeminiBatchSubmitOperator(
            task_id="submit", input_uri=f"gs://{bucket}/in", output_uri=f"gs://{bucket}/out", **job
        ),
        "land": GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=JOB, destination_table=f"{dataset}.t", key_field=name
        ),
        "retry": GeminiBatchRetryFailedOperator(
            task_id="retry", results_table=f"{dataset}.t", key_field=name
        ),
        "requests": GeminiBatchRequestsOperator(
            task_id="requests", python_callable=lambda: ["a"], key_field=name, **staging
        ),
        "decorator": decorated,
    }


@pytest.mark.parametrize("which", ["submit", "land", "retry", "requests", "decorator"])
def test_a_name_that_is_no_place_is_refused(
    vertex: Emulator, bucket: str, dataset: str, context: Context, which: str
) -> None:
    for name in ("", "a b", "request", "it's"):
        with pytest.raises(AirflowFailException, match="key_field=") as error:
            operators(name, bucket, dataset)[which].execute(context)
        assert isinstance(error.value.__cause__, InvalidParameterError)
    assert not vertex.jobs
    assert "key_field" in operators("{{ var.value.key_field }}", bucket, dataset)[which].template_fields


def test_a_task_group_uses_one_place_in_all_tasks(
    vertex: Emulator, bucket: str, context: Context, storage_client: storage.Client
) -> None:
    with DAG("grouped", schedule=None) as dag:
        gemini_batch(
            lambda: [{"custom_id": "a", "prompt": "x"}, ("b", "y")],
            model="gemini-3.5-flash",
            staging_uri=f"gs://{bucket}/staging",
            location="global",
            results_table="d.answers",
            max_retry_rounds=1,
            key_field="custom_id",
            key_label=True,
        )
    tasks = [
        dag.get_task(f"gemini_batch.{name}") for name in ("requests", "job.submit", "job.land", "job.retry")
    ]
    assert {task.key_field for task in tasks} == {"custom_id"}
    assert [dag.get_task(f"gemini_batch.{name}").key_label for name in ("requests", "job.retry")] == [
        True,
        True,
    ]
    (uri,) = tasks[0].execute(context)
    blob = storage_client.bucket(bucket).blob(uri.removeprefix(f"gs://{bucket}/"))
    lines = [json.loads(line) for line in blob.download_as_bytes().splitlines()]
    assert [line["custom_id"] for line in lines] == ["a", "b"]
    assert [line["request"]["labels"] for line in lines] == [{KEY_LABEL: "a"}, {KEY_LABEL: "b"}]


def test_the_decorator_writes_and_lands_keys_of_another_place(
    vertex: Emulator, bucket: str, dataset: str, bigquery_client: bigquery.Client, context: Context
) -> None:
    with DAG("keys", schedule=None):
        task = gemini_batch_task(
            lambda: {"a": "same text", "b": "other"},
            task_id="ask",
            model="gemini-3.5-flash",
            location="global",
            staging_uri=f"gs://{bucket}/staging",
            results_table=f"{dataset}.answers",
            key_field="labels.request_id",
            deferrable=False,
            poll_interval=0.1,
        )().operator
    task.execute(context)
    found = bigquery_client.query(f"SELECT key FROM `{dataset}.answers`").result()
    assert {row["key"] for row in found} == {"a", "b"}
