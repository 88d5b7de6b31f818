"""Landing as a task: its values, its gates, and what is in XCom when it fails."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY, AirflowFailException

from airflow_gemini_batch.emulator.faults.plan import FaultPlan, RowFault, RowFaultKind
from airflow_gemini_batch.exceptions import (
    InvalidParameterError,
    QualityGateError,
    ReportError,
    RowCountError,
    TableMismatchError,
)
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from tests.tasks.landed import add_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.task_instance import TaskInstance

Context = Any
Land = Any


@pytest.fixture
def job_name(vertex: Emulator, submit_args: dict[str, Any], context: Context) -> str:
    """A job of three rows; the output has none for the second."""
    vertex.faults = FaultPlan(rows=[RowFault(kind=RowFaultKind.DROPPED, nth=(2,))])
    submit = GeminiBatchSubmitOperator(**submit_args, wait_for_completion=True, deferrable=False)
    return str(submit.execute(context))


@pytest.fixture
def land(job_name: str, dataset: str) -> Callable[..., Land]:
    """Makes the operator that lands it."""

    def make(**values: Any) -> GeminiBatchResultsToBigQueryOperator:
        given = {"task_id": "land", "job_name": job_name, "destination_table": f"{dataset}.answers", **values}
        return GeminiBatchResultsToBigQueryOperator(**given)

    return make


def failure(task: Land, context: Context) -> BaseException | None:
    """Execute a task that fails for good, and return why."""
    with pytest.raises(AirflowFailException) as caught:
        task.execute(context)
    return caught.value.__cause__


def test_rows_that_did_not_succeed_are_a_warning_with_the_reasons_and_the_table(
    land: Callable[..., Land], context: Context, dataset: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="airflow_gemini_batch"):
        land().execute(context)
    assert "Landed 3 rows: 2 succeeded, 1 missing; " in caplog.text
    ours = [each for each in caplog.records if each.name.startswith("airflow_gemini_batch")]
    assert [each.message for each in ours if each.levelno == logging.WARNING] == [
        "1 of 3 rows did not succeed: 1 × missing",
        f"Errors: {dataset}.answers_errors",
    ]


def test_the_table_of_another_kind_is_refused(
    land: Callable[..., Land], context: Context, dataset: str, bigquery_client: bigquery.Client
) -> None:
    land().execute(context)
    tables = [bigquery_client.get_table(f"{dataset}.{name}") for name in ("answers", "answers_errors")]
    for tables_given, kind in (
        ({"destination_table": f"{dataset}.others", "error_table": f"{dataset}.answers"}, "results"),
        ({"destination_table": f"{dataset}.answers_errors"}, "error"),
    ):
        error = failure(land(**tables_given), context)
        assert isinstance(error, TableMismatchError)
        assert f"it is the {kind} table of a landing; name another table" in str(error)
    for table in tables:
        now = bigquery_client.get_table(table.reference)
        assert (now.schema, now.num_rows, now.modified) == (table.schema, table.num_rows, table.modified)


def test_gates_that_hold(land: Callable[..., Land], context: Context, ti: TaskInstance) -> None:
    manifest = land(min_success_ratio="0.66", max_invalid_ratio=0).execute(context)
    assert (manifest["counts"]["succeeded"], manifest["input_rows"]) == (2, 3)
    assert XCOM_RETURN_KEY not in ti.xcom  # Airflow puts there what is returned.


def test_a_gate_fails_the_task_after_landing(
    land: Callable[..., Land],
    context: Context,
    ti: TaskInstance,
    dataset: str,
    bigquery_client: bigquery.Client,
    vertex: Emulator,
) -> None:
    """The rows are in the table, the manifest is in XCom, and a retry finds both again."""

    def rows() -> list[tuple[Any, ...]]:
        query = f"SELECT key, status, landed_at FROM `{dataset}.answers` ORDER BY key"
        return [row.values() for row in bigquery_client.query_and_wait(query)]

    error = failure(land(min_success_ratio=0.9), context)
    assert isinstance(error, QualityGateError)
    assert (error.gate, error.limit, error.ratio) == ("min_success_ratio", 0.9, 2 / 3)
    assert ti.xcom[XCOM_RETURN_KEY] == error.manifest
    landed = rows()
    assert [status for _, status, _ in landed] == ["succeeded", "missing", "succeeded"]
    again = failure(land(min_success_ratio=0.9), context)
    assert isinstance(again, QualityGateError)
    assert again.manifest == error.manifest
    assert rows() == landed
    assert len(vertex.jobs) == 1
    assert land(min_success_ratio=0.6).execute(context) == error.manifest


@pytest.mark.parametrize("can_report", [True, False])
def test_rows_that_do_not_add_up(
    land: Callable[..., Land],
    context: Context,
    ti: TaskInstance,
    vertex: Emulator,
    bucket: str,
    storage_client: storage.Client,
    can_report: bool,
) -> None:
    """The manifest is in XCom, and the page says so; that no page can be written hides nothing."""
    (job,) = vertex.jobs
    directory = job["outputInfo"]["gcsOutputDirectory"].removeprefix(f"gs://{bucket}/")
    stranger = json.dumps({"key": "stranger", "request": {}, "status": "", "response": {}})
    storage_client.bucket(bucket).blob(f"{directory}/predictions.jsonl-1").upload_from_string(stranger)
    place = bucket if can_report else f"no-{bucket}"
    error = failure(land(report_uri=f"gs://{place}/report.html"), context)
    assert isinstance(error, RowCountError)
    assert ti.xcom[XCOM_RETURN_KEY] == error.manifest
    assert error.manifest["unmatched"] == 1
    page = storage_client.bucket(bucket).get_blob("report.html")
    assert (page is not None) is can_report
    if page:
        assert b"Output rows that match no input row: 1." in page.download_as_bytes()
    else:
        assert isinstance(error.__context__, ReportError)


@pytest.mark.parametrize("name", ["report.html", "reports/"])
def test_the_report_is_written_though_a_gate_fails(
    land: Callable[..., Land],
    context: Context,
    job_name: str,
    bucket: str,
    storage_client: storage.Client,
    name: str,
) -> None:
    uri = f"gs://{bucket}/{name}"
    assert isinstance(failure(land(report_uri=uri, min_success_ratio=1), context), QualityGateError)
    written = f"{name}{job_name.rpartition('/')[2]}.html" if name.endswith("/") else name
    blob = storage_client.bucket(bucket).get_blob(written)
    assert blob.content_type == "text/html; charset=utf-8"
    page = blob.download_as_text()
    assert "2 of 3 rows succeeded (66.7%); the other row may succeed if resubmitted." in page
    assert "gemini-3.5-flash · SUCCEEDED" in page
    assert "$" in page
    assert "Hello" not in page


def test_a_report_that_cannot_be_written_is_tried_again(
    land: Callable[..., Land], context: Context, ti: TaskInstance
) -> None:
    with pytest.raises(ReportError, match=r"gs://no-such-bucket/a\.html: .* A retry costs nothing"):
        land(report_uri="gs://no-such-bucket/a.html").execute(context)
    assert ti.xcom[XCOM_RETURN_KEY]["counts"]["succeeded"] == 2


def test_images_are_stored_and_referred_to(
    land: Callable[..., Land],
    context: Context,
    vertex: Emulator,
    bucket: str,
    dataset: str,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
) -> None:
    add_image(vertex, storage_client, bucket)
    manifest = land(media_uri_prefix=f"gs://{bucket}/images").execute(context)
    assert manifest["counts"]["succeeded"] == 3
    part = "JSON_QUERY(response, '$.candidates[0].content.parts[0]')"
    query = f"SELECT JSON_VALUE({part}, '$.fileData.fileUri') FROM `{dataset}.answers` WHERE key = 'row-1'"
    ((uri,),) = bigquery_client.query_and_wait(query)
    (blob,) = storage_client.list_blobs(bucket, prefix="images/")
    assert uri == f"gs://{bucket}/{blob.name}"
    assert blob.download_as_bytes() == b"\x89PNG"


@pytest.mark.parametrize("wrong", [{"media_uri_prefix": "images"}, {"include_response": False}], ids=str)
def test_images_need_a_place_and_a_reference(
    land: Callable[..., Land], bucket: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        land(**{"media_uri_prefix": f"gs://{bucket}/images", **wrong})
    assert caught.value.parameter == "media_uri_prefix"


@pytest.mark.parametrize("uri", ["/tmp/a.html", "gs://bucket", "gs://bucket/", "gs://b/*.html", "gs:///a"])
def test_a_place_that_is_none_is_refused(land: Callable[..., Land], uri: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        land(report_uri=uri)
    assert (caught.value.parameter, caught.value.value) == ("report_uri", uri)


def test_a_gate_is_checked_before_anything_is_done(
    land: Callable[..., Land],
    context: Context,
    vertex: Emulator,
    dataset: str,
    bigquery_client: bigquery.Client,
) -> None:
    calls = len(vertex.requests)
    operator = land()
    operator.max_invalid_ratio = 5  # As a template may render.
    error = failure(operator, context)
    assert isinstance(error, InvalidParameterError)
    assert error.parameter == "max_invalid_ratio"
    assert len(vertex.requests) == calls
    assert not list(bigquery_client.list_tables(dataset))


def test_the_schema_of_the_requests_makes_the_columns_unless_told_not_to(
    submit_args: dict[str, Any],
    context: Context,
    bucket: str,
    dataset: str,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
) -> None:
    """Nested, as the emulator answers it."""
    place = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
    schema = {"type": "OBJECT", "properties": {"places": {"type": "ARRAY", "items": place, "minItems": 1}}}
    request = {
        "contents": [{"role": "user", "parts": [{"text": "Where?"}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": schema},
    }
    lines = "\n".join(json.dumps({"key": f"k{number}", "request": request}) for number in range(2))
    storage_client.bucket(bucket).blob("asked.jsonl").upload_from_string(lines)
    submit_args |= {"input_uri": f"gs://{bucket}/asked.jsonl"}
    submit = GeminiBatchSubmitOperator(**submit_args, wait_for_completion=True, deferrable=False)
    given = {"task_id": "land", "job_name": submit.execute(context)}

    def columns(table: str, **more: Any) -> set[str]:
        task = GeminiBatchResultsToBigQueryOperator(**given, destination_table=f"{dataset}.{table}", **more)
        assert task.execute(context)["counts"]["succeeded"] == 2
        return {field.name for field in bigquery_client.get_table(f"{dataset}.{table}").schema}

    assert columns("typed") - columns("plain", response_schema=False) == {"places"}
    rows = bigquery_client.query_and_wait(f"SELECT places FROM `{dataset}.typed`")
    assert [isinstance(row["places"][0]["city"], str) for row in rows] == [True, True]
