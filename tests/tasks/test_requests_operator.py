"""BigQueryToGeminiBatchRequestsOperator against the local stack, up to the answers."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_gemini_batch.exceptions import RequestsError
from airflow_gemini_batch.gcp.table_name import get_table
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.requests.building.build import Defaults, build_lines
from airflow_gemini_batch.requests.building.media import media
from airflow_gemini_batch.requests.keys import KEY_LABEL, label_of
from tests.small_jobs import MODEL, make_jobs_small

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack
    from tests.task_instance import TaskInstance

Context = Any
SCHEMA = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}
TEXT_PARTS = '{"contents": [{"role": "user", "parts": "Give me a recipe"}]}'
TWO = "SELECT 'a' AS key, 'Hello' AS prompt UNION ALL SELECT 'b', 'Goodbye'"


@pytest.fixture
def build(stack: RunningStack, regional: str, context: Context) -> Callable[..., Any]:
    """Builds the requests of a query, and returns what the operator returns."""

    def run(sql: str, **changes: Any) -> Any:
        settings = {"destination_table": f"{regional}.requests", "location": "global", **changes}
        return BigQueryToGeminiBatchRequestsOperator(task_id="build", sql=sql, **settings).execute(context)

    return run


@pytest.fixture
def rows(bigquery_client: bigquery.Client) -> Callable[[str], dict[str, dict[str, Any]]]:
    """The rows of a table by key."""

    def read(table: str) -> dict[str, dict[str, Any]]:
        found = bigquery_client.list_rows(bigquery_client.get_table(table.removeprefix("bq://")))
        return {row["key"]: {**row, "request": as_json(row["request"])} for row in map(dict, found)}

    return read


def as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def test_prompts(build: Callable[..., Any], rows: Callable[..., Any], regional: str) -> None:
    uri = build(TWO)
    assert uri == f"bq://{regional}.requests"
    assert rows(uri)["a"]["request"] == {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
    }


@pytest.mark.parametrize("key_label", [False, True])
def test_sql_and_python_build_the_same_requests(
    build: Callable[..., Any], rows: Callable[..., Any], key_label: bool
) -> None:
    defaults = {
        "key_label": key_label,
        "system_instruction": "Be short",
        "generation_config": {"temperature": 0.5, "labels": {"team": "x"}},
        "response_schema": SCHEMA,
        "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "tools": [{"googleSearch": {"timeRangeFilter": None}}],
    }
    sql = """
      WITH given AS (
        SELECT 'plain' AS key, ['He said "no"\\n\\u00e9'] AS prompt,
          CAST(NULL AS STRING) AS system_instruction,
          CAST([] AS ARRAY<STRING>) AS media_uri
        UNION ALL SELECT 'Own Rules/1', ['x', 'y'], 'Be long', ['gs://b/a.PDF', 'gs://b/c.png']
      )
      SELECT * FROM given; -- with a comment
    """.replace("; -- with a comment", " -- with a comment")
    prompts = [
        ("plain", ['He said "no"\n\u00e9']),
        (
            "Own Rules/1",
            {
                "prompt": ["x", "y"],
                "system_instruction": "Be long",
                "media_uri": ["gs://b/a.PDF", "gs://b/c.png"],
            },
        ),
    ]
    expected = {
        line.key: json.loads(line.data)["request"] for line in build_lines(prompts, Defaults(**defaults))
    }
    found = rows(build(sql, **defaults))
    assert {key: row["request"] for key, row in found.items()} == expected


def test_media_with_a_type_of_its_own(build: Callable[..., Any], rows: Callable[..., Any]) -> None:
    found = rows(
        build(
            "SELECT 'a' AS key, 'x' AS prompt, 'gs://b/a' AS media_uri, 'image/png' AS media_mime_type "
            "UNION ALL SELECT 'b', 'x', 'gs://b/b.pdf', NULL UNION ALL SELECT 'c', 'x', NULL, NULL"
        )
    )
    parts = {key: row["request"]["contents"][0]["parts"] for key, row in found.items()}
    text = {"text": "x"}
    assert parts == {
        "a": [media("gs://b/a", "image/png"), text],
        "b": [media("gs://b/b.pdf"), text],
        "c": [text],
    }


@pytest.mark.parametrize("kind", ["JSON", "STRING"])
def test_ready_requests_keep_what_they_say(
    build: Callable[..., Any], rows: Callable[..., Any], kind: str
) -> None:
    request = {
        "contents": [{"parts": [{"text": "Hello"}]}],
        "generationConfig": {"temperature": 1},
        "labels": {"team": "x"},
    }
    column = f"JSON '{json.dumps(request)}'" if kind == "JSON" else f"'{json.dumps(request)}'"
    found = rows(
        build(
            f"SELECT 'a' AS key, {column} AS request, 7 AS n, DATE '2026-01-02' AS day",
            generation_config={"temperature": 0, "maxOutputTokens": 9},
            system_instruction="Be short",
        )
    )["a"]
    assert found["request"]["generationConfig"] == {"temperature": 1, "maxOutputTokens": 9}
    assert found["request"]["labels"] == {"team": "x"}
    assert found["request"]["systemInstruction"] == {"parts": [{"text": "Be short"}]}
    assert (found["n"], found["day"].isoformat()) == (7, "2026-01-02")


def test_ready_requests_are_checked_by_the_rules_of_the_model(
    build: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    one = {"contents": [{"parts": [{"text": "Hello"}]}], "tools": [{"googleSearch": {"excludeDomains": []}}]}
    other = {**one, "generationConfig": {"frequencyPenalty": 1}}
    # A column of the user may have the name of a member of a request.
    sql = " UNION ALL ".join(
        f"SELECT 'k{n}' AS key, JSON '{json.dumps(each)}' AS request, 'x' AS tools"
        for n, each in enumerate((one, other, other))
    )
    build(sql, model="gemini-3.7-flash")
    found = [each.getMessage() for each in caplog.records if "would fail" in each.getMessage()]
    assert found == ["The query returns 3 rows: 2 rows would fail: refused-by-model frequencyPenalty 2 ×."]


def test_keys_are_text_and_have_labels_if_asked_for(
    build: Callable[..., Any], rows: Callable[..., Any]
) -> None:
    sql = "SELECT key, 'x' AS prompt FROM UNNEST(['17', 'Ä b', 'ok_1']) AS key"
    assert not any("labels" in row["request"] for row in rows(build(sql)).values())
    found = rows(build(sql, key_label=True))
    assert {key: row["request"]["labels"][KEY_LABEL] for key, row in found.items()} == {
        key: label_of(key) for key in ("17", "Ä b", "ok_1")
    }
    assert label_of("Ä b") == f"h-{hashlib.sha256('Ä b'.encode()).hexdigest()[:40]}"
    assert set(rows(build("SELECT 17 AS key, 'x' AS prompt"))) == {"17"}


@pytest.mark.parametrize(
    ("sql", "changes", "message"),
    [
        (
            "SELECT 'a' AS key, 'x' AS prompt UNION ALL SELECT NULL, 'y'",
            {},
            "1 row whose key is NULL or empty",
        ),
        ("SELECT '' AS key, 'x' AS prompt", {}, "key is NULL or empty"),
        (f"{TWO} UNION ALL SELECT 'a', 'y'", {}, "another row, such as 'a'"),
        ("SELECT 'a' AS key, CAST(NULL AS STRING) AS prompt", {}, "whose prompt is NULL"),
        ("SELECT 'a' AS key, '{' AS request", {}, "whose request is NULL"),
        ("SELECT 'a' AS key, JSON '{\"contents\": []}' AS request", {}, "whose request is NULL"),
        (f"SELECT 'a' AS key, '{TEXT_PARTS}' AS request", {}, "1 row with text, a number"),
        (f"SELECT 'a' AS key, JSON '{TEXT_PARTS}' AS request", {"tools": [{"x": 1}]}, "1 row with text"),
        ("SELECT 'a' AS key, 'x' AS prompt, 'gs://b/a' AS media_uri", {}, "media_mime_type"),
        ("SELECT 'a' AS key, 'x' AS prompt, 'a.pdf' AS media_uri", {}, "gs:// URI"),
        ("SELECT 'a' AS key, 'x' AS prompt, 'https://a.b/c.pdf' AS media_uri", {}, "gs:// URI"),
        (
            TWO,
            {"generation_config": {"presencePenalty": 1}, "model": "gemini-3.7-flash"},
            "generation_config='generationConfig.presencePenalty': every request would be refused",
        ),
        (
            "SELECT 'a' AS key, JSON '{\"contents\": [1], \"generation_config\": {}}' AS request",
            {"generation_config": {"seed": 1}},
            "generationConfig",
        ),
        ("SELECT 'a' AS key, 'x' AS prompt, [1] AS n", {}, "n ARRAY<INTEGER>"),
        ("SELECT 'a' AS key, 'x' AS prompt, 1 AS status", {}, "input_status"),
        ("SELECT 'x' AS prompt", {}, "column 'key'"),
        (TWO, {"destination_table": "requests"}, "destination_table='requests'"),
        (TWO, {"destination_table": "nothing_there.requests"}, "nothing_there does not exist"),
        (TWO, {"export_uri": "bucket"}, "export_uri='bucket'"),
        ("SELECT '17' AS key, 'x' AS prompt", {"export_uri": "gs://bucket/x"}, "begin with a letter"),
        (TWO, {"only_new_against": "x"}, "only_new_against='x'"),
        (TWO, {"location": "europe-west3"}, "europe-west3"),
        (TWO, {"response_schema": {"type": "object", "properties": {"_FILE_": {}}}}, "reserves this prefix"),
    ],
)
def test_what_no_job_takes_is_refused(
    build: Callable[..., Any],
    bigquery_client: bigquery.Client,
    regional: str,
    sql: str,
    changes: Any,
    message: str,
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        build(sql, **changes)
    assert list(bigquery_client.list_tables(regional)) == []


def test_a_multi_region_is_refused(build: Callable[..., Any], dataset: str) -> None:
    with pytest.raises(AirflowFailException, match="multi-region"):
        build(TWO, destination_table=f"{dataset}.requests")


def test_a_table_of_something_else_is_not_replaced(
    build: Callable[..., Any], bigquery_client: bigquery.Client, regional: str
) -> None:
    bigquery_client.query(f"CREATE TABLE `{regional}.customers` AS SELECT 1 AS id").result()
    with pytest.raises(AirflowFailException, match="not a table of requests"):
        build(TWO, destination_table=f"{regional}.customers")


ANSWERS_LIKE = "SELECT 'a' AS key, 'succeeded' AS status, JSON '{}' AS request, 'job' AS job_name"
OUTPUT_LIKE = "SELECT 'a' AS key, JSON '{}' AS request, JSON '{}' AS response, '' AS status"
RELEASED = "SELECT 'a' AS key, JSON '{}' AS request, 7 AS day"


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ("", ANSWERS_LIKE),
        ("", OUTPUT_LIKE),
        ("", "SELECT JSON '{}' AS request, 'a' AS key"),
        ("", "SELECT 'a' AS key, '{}' AS request"),
        ("", RELEASED),
        ("OPTIONS (description = 'ours')", RELEASED),
        ("OPTIONS (labels = [('team', 'x')])", RELEASED),
    ],
)
def test_what_this_task_did_not_make_is_not_replaced(
    build: Callable[..., Any],
    bigquery_client: bigquery.Client,
    regional: str,
    options: str,
    content: str,
) -> None:
    bigquery_client.query(f"CREATE TABLE `{regional}.theirs` {options} AS {content}").result()
    with pytest.raises(AirflowFailException, match="not a table of requests that this task made"):
        build(TWO, destination_table=f"{regional}.theirs")
    ((kept,),) = bigquery_client.query(f"SELECT key FROM `{regional}.theirs`").result()
    assert kept == "a"


def test_a_table_of_another_task_is_not_replaced(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, ti: TaskInstance
) -> None:
    build(TWO)
    ti.run_id = "tomorrow"
    build(TWO)
    ti.task_id, task_id = "other", ti.task_id
    with pytest.raises(AirflowFailException, match=f"built by task {task_id} of DAG dag"):
        build(TWO)
    ti.task_id, ti.dag_id = task_id, "other"
    with pytest.raises(AirflowFailException, match=f"built by task {task_id} of DAG dag"):
        build(TWO)
    ti.dag_id = "dag"
    monkeypatch.setenv("AIRFLOW__GEMINI_BATCH__INSTALLATION", "development")
    with pytest.raises(AirflowFailException, match="the same one in another Airflow"):
        build(TWO)


def test_requests_do_not_replace_the_results_that_they_are_compared_with(
    build: Callable[..., Any], regional: str
) -> None:
    with pytest.raises(AirflowFailException, match=r"only_new_against=.*: it is destination_table"):
        build(TWO, only_new_against=f"{regional}.requests")


def test_a_query_that_fails(build: Callable[..., Any]) -> None:
    with pytest.raises(RequestsError, match="no requests were built"):
        build("SELECT key, prompt FROM nowhere.nothing")


def test_more_rows_than_a_job_takes(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_jobs_small(monkeypatch, tmp_path, 1)
    with pytest.raises(AirflowFailException, match=r"2 rows.*set export_uri"):
        build(TWO, model=MODEL)


def test_a_retry_changes_nothing(
    build: Callable[..., Any], bigquery_client: bigquery.Client, regional: str, ti: TaskInstance
) -> None:
    random = "SELECT key, CAST(RAND() AS STRING) AS prompt FROM UNNEST(['a', 'b']) AS key"

    def state() -> Any:
        return bigquery_client.get_table(f"{regional}.requests").modified

    uri = build(random)
    before = state()
    assert build(random) == uri
    assert state() == before
    assert [table.table_id for table in bigquery_client.list_tables(regional)] == ["requests"]
    ti.try_number = 2
    build(random, force_new=True)
    again = state()
    assert again != before
    ti.run_id = "another"
    build(random)
    assert state() != again


def test_a_table_that_was_written_since_is_built_again(
    build: Callable[..., Any], bigquery_client: bigquery.Client, rows: Callable[..., Any], regional: str
) -> None:
    uri = build(TWO)
    bigquery_client.delete_table(f"{regional}.requests")
    assert set(rows(build(TWO))) == {"a", "b"}
    assert uri == f"bq://{regional}.requests"


def test_data_that_was_mended_is_seen(
    build: Callable[..., Any], bigquery_client: bigquery.Client, rows: Callable[..., Any], regional: str
) -> None:
    source = f"{regional}_source".replace("_regional", "")
    bigquery_client.create_dataset(source)
    sql = f"SELECT key, prompt FROM `{source}.given`"
    bigquery_client.query(f"CREATE TABLE `{source}.given` AS SELECT '' AS key, 'x' AS prompt").result()
    with pytest.raises(AirflowFailException, match="1 row whose key is NULL or empty"):
        build(sql)
    bigquery_client.query(f"UPDATE `{source}.given` SET key = 'a' WHERE TRUE").result()
    assert set(rows(build(sql))) == {"a"}


def test_only_what_is_new_is_asked(
    build: Callable[..., Any],
    bigquery_client: bigquery.Client,
    rows: Callable[..., Any],
    regional: str,
    ti: TaskInstance,
) -> None:
    answers = f"{regional}.answers"
    assert set(rows(build(TWO, only_new_against=answers))) == {"a", "b"}  # no answers yet, no table
    bigquery_client.query(
        f"CREATE TABLE `{answers}` AS SELECT 'a' AS key, 'succeeded' AS status "
        "UNION ALL SELECT 'b', 'failed' UNION ALL SELECT NULL, 'succeeded'"
    ).result()
    assert set(rows(build(TWO, only_new_against=answers))) == {"a", "b"}  # the same run
    ti.run_id = "tomorrow"
    assert set(rows(build(TWO, only_new_against=answers))) == {"b"}
    bigquery_client.query(f"UPDATE `{answers}` SET status = 'succeeded' WHERE TRUE").result()
    ti.run_id = "the day after"
    with pytest.raises(
        AirflowSkipException, match=r"have not succeeded in .*answers already: there is nothing new"
    ):
        build(TWO, only_new_against=answers)


def test_lines_for_several_jobs(
    build: Callable[..., Any],
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each file is written from its own partition, so that the requests are not read once for each file."""
    make_jobs_small(monkeypatch, tmp_path, 20)
    sql = "SELECT CONCAT('row-', n) AS key, 'x' AS prompt FROM UNNEST(GENERATE_ARRAY(1, 50)) AS n"
    uris = build(sql, export_uri=f"gs://{bucket}/lines/", model=MODEL)
    assert len(uris) == 3
    keys: list[str] = []
    for uri in uris:
        prefix = uri.removeprefix(f"gs://{bucket}/").partition("*")[0]
        data = b"".join(blob.download_as_bytes() for blob in storage_client.list_blobs(bucket, prefix=prefix))
        lines = [json.loads(line) for line in data.split(b"\n") if line]
        assert all(set(line) == {"key", "request"} and line["request"]["contents"] for line in lines)
        keys += [line["key"] for line in lines]
    assert sorted(keys) == sorted(f"row-{n}" for n in range(1, 51))
    made = {blob.name: blob.generation for blob in storage_client.list_blobs(bucket)}
    assert build(sql, export_uri=f"gs://{bucket}/lines/", model=MODEL) == uris
    assert {blob.name: blob.generation for blob in storage_client.list_blobs(bucket)} == made
    queries = [getattr(job, "query", "") or "" for job in bigquery_client.list_jobs()]
    exports = [query for query in queries if "EXPORT DATA" in query and bucket in query]
    assert sorted(query.rpartition("WHERE ")[2].strip() for query in exports) == [
        f"file = {n}" for n in range(3)
    ]
    (source,) = {re.findall("FROM `(.*)`", query)[0] for query in exports}
    (files,) = {query for query in queries if f"CREATE OR REPLACE TABLE `{source}`" in query}
    assert "PARTITION BY RANGE_BUCKET(file, GENERATE_ARRAY(0, 3, 1))" in files
    assert get_table(bigquery_client, source) is None


@pytest.mark.any_airflow
def test_an_empty_first_file_of_an_export_is_no_error(
    build: Callable[..., Any], storage_client: storage.Client, bucket: str
) -> None:
    """BigQuery may write one beside those with lines."""
    sql = "SELECT 'row-1' AS key, 'x' AS prompt"
    (uri,) = build(sql, export_uri=f"gs://{bucket}/lines", model=MODEL)
    prefix = uri.removeprefix(f"gs://{bucket}/").partition("*")[0]
    storage_client.bucket(bucket).blob(f"{prefix}!.jsonl").upload_from_string(b"")
    first, second = storage_client.list_blobs(bucket, prefix=prefix)
    assert (first.size, bool(second.size)) == (0, True)
    assert build(sql, export_uri=f"gs://{bucket}/lines", model=MODEL) == [uri]


@pytest.mark.parametrize("exported", [False, True])
def test_from_rows_to_answers(
    build: Callable[..., Any],
    vertex: Emulator,
    context: Context,
    bucket: str,
    regional: str,
    bigquery_client: bigquery.Client,
    exported: bool,
) -> None:
    sql = "SELECT CONCAT('Row ', n) AS key, CONCAT('Number ', n) AS prompt FROM UNNEST([1, 2, 3]) AS n"
    export = {"export_uri": f"gs://{bucket}/lines"} if exported else {}
    source = build(sql, response_schema=SCHEMA, **export)
    job = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri=source[0] if exported else source,
        output_uri=f"gs://{bucket}/out",
        location="global",
        wait_for_completion=True,
        deferrable=False,
        poll_interval=0.1,
    ).execute(context)
    GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=job, destination_table=f"{regional}.answers", response_schema=SCHEMA
    ).execute(context)
    answers = list(bigquery_client.list_rows(f"{regional}.answers"))
    assert {row["key"] for row in answers} == {"Row 1", "Row 2", "Row 3"}
    assert all(row["status"] == "succeeded" and row["topic"] for row in answers)
