"""Embeddings from texts to vectors in BigQuery, against the local stack."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_gemini_batch.decorators.gemini_batch import gemini_batch_task
from airflow_gemini_batch.emulator.faults.plan import RowFaultKind
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import (
    BigQueryToGeminiBatchRequestsOperator,
    GeminiBatchRequestsOperator,
)
from airflow_gemini_batch.task_groups import gemini_batch
from tests.tasks.landed import NOTHING, ROWS, Landed, expected, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

Context = Any
MODEL = "gemini-embedding-001"
# The other one is not offered in `global`, where the fixtures of all tasks submit.
GLOBAL_MODEL = "gemini-embedding-2"
CONFIG = {"output_dimensionality": 64, "task_type": "RETRIEVAL_DOCUMENT"}
SCHEMA = {"type": "object", "properties": {"topic": {"type": "string"}}}
CONFIG_AS_REST = {"outputDimensionality": 64, "taskType": "RETRIEVAL_DOCUMENT"}


@pytest.fixture
def settings(vertex: Emulator, bucket: str) -> dict[str, Any]:
    return {
        "model": MODEL,
        "staging_uri": f"gs://{bucket}/staging",
        "location": "us-central1",
        "embedding_config": CONFIG,
    }


@pytest.fixture
def operator(settings: dict[str, Any]) -> Callable[..., Any]:
    """Makes the operator behind a decorated function."""

    def make(function: Callable[..., Any], **changes: Any) -> Any:
        given = {"task_id": "embed", "deferrable": False, "poll_interval": 0.1, **settings, **changes}
        with DAG("decorated", schedule=None):
            return gemini_batch_task(function, **given)().operator

    return make


def lines_of(client: storage.Client, bucket: str, prefix: str) -> list[dict[str, Any]]:
    blobs = client.list_blobs(bucket, prefix=prefix)
    data = b"".join(blob.download_as_bytes() for blob in blobs if blob.name.endswith(".jsonl"))
    return [json.loads(line) for line in data.split(b"\n") if line]


def vectors(client: bigquery.Client, table: str) -> dict[str, list[float]]:
    found = {row["key"]: row for row in client.list_rows(table)}
    assert {row["status"] for row in found.values()} == {"succeeded"}
    assert all(row["prompt_tokens"] and not row["output_tokens"] for row in found.values())
    return {key: row["embedding"] for key, row in found.items()}


def test_from_texts_to_vectors(
    operator: Callable[..., Any],
    context: Context,
    vertex: Emulator,
    storage_client: storage.Client,
    bucket: str,
    dataset: str,
    bigquery_client: bigquery.Client,
) -> None:
    def texts() -> Any:
        yield "plain", "A river"
        yield {"key": "titled", "prompt": "A lake", "title": "Water"}
        yield "again", "A river"

    manifest = operator(texts, results_table=f"{dataset}.vectors").execute(context)

    assert manifest["counts"]["succeeded"] == 3
    (job,) = vertex.jobs
    assert job["model"] == f"publishers/google/models/{MODEL}"
    found = vectors(bigquery_client, f"{dataset}.vectors")
    assert {len(vector) for vector in found.values()} == {64}
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-6) for vector in found.values())
    assert found["plain"] == found["again"] != found["titled"]
    sent = {line["key"]: line["request"] for line in lines_of(storage_client, bucket, "staging/requests/")}
    assert sent["plain"] == {
        "content": {"parts": [{"text": "A river"}]},
        "embedContentConfig": CONFIG_AS_REST,
    }
    assert sent["titled"]["embedContentConfig"] == {**CONFIG_AS_REST, "title": "Water"}
    answers = lines_of(storage_client, bucket, "staging/results/")
    assert {tuple(sorted(line)) for line in answers} == {("key", "request", "response")}


def test_the_steps_on_their_own(
    settings: dict[str, Any], context: Context, storage_client: storage.Client, bucket: str
) -> None:
    build = GeminiBatchRequestsOperator(
        task_id="build",
        python_callable=lambda: [{"n": 1}],
        template="Number {n}",
        model=MODEL,
        embedding_config=CONFIG,
        staging_uri=settings["staging_uri"],
    )
    build.execute(context)
    with DAG("grouped", schedule=None) as dag:
        gemini_batch(lambda: {"own-key": "Number 1"}, **settings, group_id="embed")
    dag.get_task("embed.requests").execute(context)
    first, second = lines_of(storage_client, bucket, "staging/requests/")
    assert first["request"] == second["request"]
    assert first["request"]["embedContentConfig"] == CONFIG_AS_REST


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system_instruction": "Be brief."}, "system_instruction is set: .*leave system_instruction out"),
        ({"response_schema": SCHEMA}, "response_schema is set: .*answers with vectors"),
        ({"embedding_config": {"output_dimensionality": 5000}}, "output_dimensionality.*=5000"),
        ({"model": "gemini-3.5-flash"}, "embedding_config=.*generates"),
        ({"model": "textembedding-gecko@003"}, "model='textembedding-gecko@003'.*use gemini-embedding-001"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_stored(
    operator: Callable[..., Any],
    context: Context,
    vertex: Emulator,
    storage_client: storage.Client,
    bucket: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        operator(lambda: ["Secret text"], **changes).execute(context)
    assert vertex.jobs == ()
    assert list(storage_client.list_blobs(bucket)) == []


class TestSubmit:
    @pytest.fixture
    def args(self, submit_args: dict[str, Any], storage_client: storage.Client) -> dict[str, Any]:
        line = {"key": "a", "request": {"content": {"parts": [{"text": "A river"}]}}}
        bucket, _, name = submit_args["input_uri"].removeprefix("gs://").partition("/")
        storage_client.bucket(bucket).blob(name).upload_from_string(json.dumps(line))
        return {**submit_args, "model": GLOBAL_MODEL}

    def test_a_table_is_refused(self, args: dict[str, Any], context: Context, vertex: Emulator) -> None:
        args["input_uri"] = "bq://local-project.d.requests"
        with pytest.raises(AirflowFailException, match=r"read only files in Cloud Storage.*EXPORT DATA"):
            GeminiBatchSubmitOperator(**args).execute(context)
        assert vertex.jobs == ()

    def test_the_check_knows_the_model(
        self, args: dict[str, Any], context: Context, vertex: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        GeminiBatchSubmitOperator(**args).execute(context)
        assert "wrong-kind" not in caplog.text
        wrong = {**args, "model": "gemini-3.5-flash", "force_new": "2"}
        with pytest.raises(AirflowFailException, match=r"all 1 row would fail\. wrong-kind 1 × at"):
            GeminiBatchSubmitOperator(**wrong).execute(context)
        assert len(vertex.jobs) == 1

    def test_the_service_counts_the_tokens_of_the_content(
        self, args: dict[str, Any], context: Context, vertex: Emulator
    ) -> None:
        prices = {"input": 0.12, "output": 0}
        GeminiBatchSubmitOperator(**args, max_cost_usd=0.01, prices=prices).execute(context)
        (counted,) = (each for each in vertex.requests if each.path.endswith(":countTokens"))
        assert counted.status == 200
        assert counted.body["contents"] == [{"parts": [{"text": "A river"}]}]


class TestFromQuery:
    SQL = """
        SELECT CONCAT('doc-', n) AS key, CONCAT('Text ', n) AS prompt, IF(n = 1, 'One', NULL) AS title
        FROM UNNEST([1, 2, 3]) AS n
    """

    @pytest.fixture
    def build(self, regional: str, vertex: Emulator, context: Context) -> Callable[..., Any]:
        def run(sql: str = self.SQL, **changes: Any) -> Any:
            given = {"destination_table": f"{regional}.requests", "model": MODEL, **changes}
            given = {"embedding_config": CONFIG, "location": "us-central1", **given}
            return BigQueryToGeminiBatchRequestsOperator(task_id="build", sql=sql, **given).execute(context)

        return run

    def test_a_table_is_no_input(
        self, build: Callable[..., Any], bigquery_client: bigquery.Client, regional: str
    ) -> None:
        with pytest.raises(AirflowFailException, match="export_uri=None: jobs of gemini-embedding-001 read"):
            build()
        assert list(bigquery_client.list_tables(regional)) == []

    def test_from_rows_to_vectors(
        self,
        build: Callable[..., Any],
        context: Context,
        storage_client: storage.Client,
        bigquery_client: bigquery.Client,
        bucket: str,
        regional: str,
    ) -> None:
        (uri,) = build(export_uri=f"gs://{bucket}/lines")
        sent = {line["key"]: line["request"] for line in lines_of(storage_client, bucket, "lines/")}
        text = {"content": {"parts": [{"text": "Text 1"}]}}
        assert sent["doc-1"] == {**text, "embedContentConfig": {**CONFIG_AS_REST, "title": "One"}}
        assert sent["doc-2"]["embedContentConfig"] == CONFIG_AS_REST
        job = GeminiBatchSubmitOperator(
            task_id="submit",
            model=MODEL,
            input_uri=uri,
            output_uri=f"gs://{bucket}/out",
            location="us-central1",
            wait_for_completion=True,
            deferrable=False,
            poll_interval=0.1,
        ).execute(context)
        table = f"{regional}.vectors"
        GeminiBatchResultsToBigQueryOperator(task_id="land", job_name=job, destination_table=table).execute(
            context
        )
        found = vectors(bigquery_client, table)
        assert {key: len(vector) for key, vector in found.items()} == dict.fromkeys(sent, 64)

    def test_complete_requests(
        self, build: Callable[..., Any], storage_client: storage.Client, bucket: str
    ) -> None:
        own = {"content": {"parts": [{"text": "x"}]}, "embedContentConfig": {"outputDimensionality": 8}}
        plain = {"content": {"parts": [{"text": "y"}]}}
        sql = " UNION ALL ".join(
            f"SELECT '{key}' AS key, JSON '{json.dumps(each)}' AS request, 'kept' AS title"
            for key, each in (("a", own), ("b", plain))
        )
        build(sql, export_uri=f"gs://{bucket}/lines")
        sent = {line["key"]: line["request"] for line in lines_of(storage_client, bucket, "lines/")}
        assert sent["a"] == {**own, "embedContentConfig": {**CONFIG_AS_REST, "outputDimensionality": 8}}
        assert sent["b"] == {**plain, "embedContentConfig": CONFIG_AS_REST}

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({"contents": [{"parts": [{"text": "x"}]}]}, "1 row .*without content"),
            ({"content": {"parts": []}}, "1 row .*without content"),
            (
                {"content": {"parts": [{"text": "x"}]}, "embed_content_config": {"title": "t"}},
                "embed_content_config.*use camelCase, such as embedContentConfig",
            ),
        ],
    )
    def test_requests_that_cannot_be_embedded(
        self, build: Callable[..., Any], bucket: str, request_: dict[str, Any], message: str
    ) -> None:
        sql = f"SELECT 'a' AS key, JSON '{json.dumps(request_)}' AS request"
        with pytest.raises(AirflowFailException, match=message):
            build(sql, export_uri=f"gs://{bucket}/lines")


# A row that is refused, one without quota, and one that is lost.
FAILING = rows((RowFaultKind.REFUSED, (1,)), (RowFaultKind.EXHAUSTED, (2, 3)), (RowFaultKind.DROPPED, (4,)))


@pytest.mark.any_airflow
def test_failed_rows_are_resubmitted_as_files(
    land: Callable[..., Landed], bigquery_client: bigquery.Client
) -> None:
    requests = [{"content": {"parts": [{"text": f"Text {n}"}]}} for n in range(ROWS)]
    landed = land(FAILING, regional=True, requests=requests, model=GLOBAL_MODEL)
    assert sorted(landed.errors().values()) == [False, True, True, True]

    manifest = landed.run(NOTHING)

    assert (manifest["succeeded"], manifest["left"]) == (3, 0)
    assert landed.statuses() == expected(row_0="failed")
    _, again = landed.jobs
    assert "gcsSource" in again["inputConfig"]
    ((lengths,),) = bigquery_client.query(
        f"SELECT COUNTIF(ARRAY_LENGTH(embedding) = 3072) FROM `{landed.table}`"
    ).result()
    assert lengths == ROWS - 1


def test_failed_rows_need_a_folder_for_their_files(
    land: Callable[..., Landed], storage_client: storage.Client
) -> None:
    requests = [{"content": {"parts": [{"text": f"Text {n}"}]}} for n in range(ROWS)]
    landed = land(FAILING, requests=requests, model=GLOBAL_MODEL, output_uri="bq://{dataset}.out")
    with pytest.raises(
        AirflowFailException, match=f"staging_uri=None: jobs of {GLOBAL_MODEL} cannot read tables"
    ):
        landed.run(NOTHING)
    assert len(landed.jobs) == 1
