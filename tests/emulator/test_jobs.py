"""Jobs with the Cloud Storage and BigQuery emulators: input, output and failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.emulator.running.job_clock import IMMEDIATE, Pace
from airflow_gemini_batch.emulator.running.job_store import Job, Outcome
from airflow_gemini_batch.emulator.running.rows import Habits
from airflow_gemini_batch.emulator.server import Emulator

from .wire import Http, job_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.cloud import bigquery, storage

pytestmark = pytest.mark.usefixtures("servers")


def lines(count: int, prefix: str = "k") -> list[dict[str, Any]]:
    return [
        {
            "key": f"{prefix}{n}",
            "request": {"contents": [{"role": "user", "parts": [{"text": f"Row {n} of it."}]}]},
        }
        for n in range(count)
    ]


def put(client: storage.Client, uri: str, rows: Iterable[Any] | bytes) -> str:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    content = rows if isinstance(rows, bytes) else "\n".join(json.dumps(row) for row in rows).encode()
    client.bucket(bucket).blob(name).upload_from_string(content)
    return uri


def run(emulator: Emulator, source: str, destination: str, **fields: Any) -> dict[str, Any]:
    """Create a job and return its resource once it has ended."""
    call = Http(emulator.url)
    body = job_body(source, destination, **fields)
    status, job = call("POST", "", body)
    assert status == 200, job
    while not JobState(job["state"]).is_terminal:
        job = call("GET", f"/v1/{job['name']}")[1]
    return job  # type: ignore[no-any-return]


def predictions(client: storage.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    directory = job["outputInfo"]["gcsOutputDirectory"]
    bucket, _, prefix = directory.removeprefix("gs://").partition("/")
    blobs = list(client.list_blobs(bucket, prefix=prefix))
    assert [blob.name for blob in blobs] == [f"{prefix}/predictions.jsonl"]
    content = blobs[0].download_as_bytes()
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def test_every_row_is_answered_in_another_order(
    emulator: Emulator, storage_client: storage.Client, bucket: str
) -> None:
    source = put(storage_client, f"gs://{bucket}/in.jsonl", lines(50))
    job = run(emulator, source, f"gs://{bucket}/out/")
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["completionStats"] == {"successfulCount": "50"}
    assert job["createTime"] <= job["startTime"] <= job["endTime"]
    directory = job["outputInfo"]["gcsOutputDirectory"]
    assert directory.startswith(f"gs://{bucket}/out/prediction-model-20")
    assert directory.endswith("Z")
    assert not directory.endswith(job["createTime"])
    keys = [row["key"] for row in predictions(storage_client, job)]
    assert sorted(keys) == sorted(f"k{n}" for n in range(50))
    assert keys != [f"k{n}" for n in range(50)]
    # The provider can parse the resource.
    assert BatchJob.from_resource(job).output_location == directory


def test_several_objects_and_patterns(
    emulator: Emulator, storage_client: storage.Client, bucket: str
) -> None:
    for name in ("a/1.jsonl", "a/2.jsonl", "a/deep/3.jsonl", "a/no.txt", "b.jsonl"):
        put(storage_client, f"gs://{bucket}/{name}", lines(2, prefix=f"{name}-"))
    uris = [f"gs://{bucket}/a/**.jsonl", f"gs://{bucket}/b.jsonl"]
    source = {"instancesFormat": "jsonl", "gcsSource": {"uris": uris}}
    job = run(emulator, "gs://x/y", f"gs://{bucket}/out", inputConfig=source)
    keys = {row["key"].rpartition("-")[0] for row in predictions(storage_client, job)}
    assert keys == {"a/1.jsonl", "a/2.jsonl", "a/deep/3.jsonl", "b.jsonl"}
    assert job["completionStats"] == {"successfulCount": "8"}


def test_a_failed_row_does_not_fail_the_job(
    emulator: Emulator, storage_client: storage.Client, bucket: str
) -> None:
    rows = lines(3)
    rows[1]["request"]["contents"][0]["role"] = "robot"
    job = run(emulator, put(storage_client, f"gs://{bucket}/in", rows), f"gs://{bucket}/out")
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["completionStats"] == {"successfulCount": "2", "failedCount": "1"}
    failed = [row for row in predictions(storage_client, job) if row["status"]]
    assert [row["key"] for row in failed] == ["k1"]
    assert failed[0]["response"] == {}


def test_lines_are_split_only_at_newlines(
    emulator: Emulator, storage_client: storage.Client, bucket: str
) -> None:
    rows = lines(2)
    rows[0]["request"]["contents"][0]["parts"][0]["text"] = "One\u2028two\u0085three."
    content = "\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode() + b"\n\n"
    job = run(emulator, put(storage_client, f"gs://{bucket}/in", content), f"gs://{bucket}/out")
    assert len(predictions(storage_client, job)) == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "JSON parsing error"),
        (b'\xef\xbb\xbf{"request": {}}', "JSON parsing error"),
        (b'{"key": "a"}', "no field `request`"),
        (b"", "no rows"),
        (b"\n\n", "no rows"),
    ],
)
def test_a_file_that_cannot_be_imported_fails_the_job_before_any_row(
    emulator: Emulator, storage_client: storage.Client, bucket: str, content: bytes, complaint: str
) -> None:
    job = run(emulator, put(storage_client, f"gs://{bucket}/in", content), f"gs://{bucket}/out")
    assert job["state"] == "JOB_STATE_FAILED"
    assert job["error"]["code"] == 3
    assert job["error"]["message"].startswith("Failed to import data.")
    assert complaint in job["error"]["message"]
    assert "outputInfo" not in job
    assert list(storage_client.list_blobs(bucket, prefix="out")) == []


def test_an_object_that_does_not_exist(emulator: Emulator, bucket: str) -> None:
    job = run(emulator, f"gs://{bucket}/none.jsonl", f"gs://{bucket}/out")
    assert job["error"]["code"] == 3
    assert f"Not found: URI gs://{bucket}/none.jsonl" in job["error"]["message"]


def test_a_missing_bucket_fails_the_job_after_create(
    emulator: Emulator, storage_client: storage.Client, bucket: str
) -> None:
    source = put(storage_client, f"gs://{bucket}/in", lines(1))
    for uris in ((f"gs://no-{bucket}/in", f"gs://{bucket}/out"), (source, f"gs://no-{bucket}/out")):
        job = run(emulator, *uris)
        assert job["state"] == "JOB_STATE_FAILED"
        assert job["error"]["code"] == 9
        assert job["error"]["message"].startswith(f"Failed to get GCS bucket location for no-{bucket}. ")


@pytest.mark.parametrize(("reads", "done"), [(4, 0), (5, 2), (6, 5), (7, 7)])
def test_a_cancelled_job_exports_what_was_completed(
    emulator: Emulator, storage_client: storage.Client, bucket: str, reads: int, done: int
) -> None:
    source = put(storage_client, f"gs://{bucket}/in", lines(10))
    call = Http(emulator.url)
    body = job_body(source, f"gs://{bucket}/out", labels={"emulator-pace": "reads-4"})
    name = call("POST", "", body)[1]["name"]
    for _ in range(reads):
        call("GET", f"/v1/{name}")
    assert call("POST", f"/v1/{name}:cancel") == (200, {})
    states = [call("GET", f"/v1/{name}")[1]["state"] for _ in range(5)]
    assert states == ["JOB_STATE_CANCELLING"] * 4 + ["JOB_STATE_CANCELLED"]
    job = emulator.jobs[0]
    assert job["error"] == {"code": 1, "message": "CANCELED"}
    if not done:
        assert "completionStats" not in job
        return
    assert job["completionStats"] == {"successfulCount": str(done), "incompleteCount": str(10 - done)}
    assert len(predictions(storage_client, job)) == done


def test_a_job_succeeds_only_when_its_output_can_be_read(storage_client: storage.Client, bucket: str) -> None:
    source = put(storage_client, f"gs://{bucket}/in", lines(200))
    with Emulator(pace=Pace(seconds=0.001)) as emulator:
        job = run(emulator, source, f"gs://{bucket}/out")
        assert len(predictions(storage_client, job)) == 200


def test_the_seed_decides_order_and_answers(storage_client: storage.Client, bucket: str) -> None:
    source = put(storage_client, f"gs://{bucket}/in", lines(30))
    outputs = []
    for seed in (1, 1, 2):
        with Emulator(seed=seed) as emulator:
            rows = predictions(storage_client, run(emulator, source, f"gs://{bucket}/out"))
        for row in rows:
            del row["processed_time"], row["response"]["createTime"]
        outputs.append(rows)
    assert outputs[0] == outputs[1]
    assert [row["key"] for row in outputs[0]] != [row["key"] for row in outputs[2]]


def test_the_order_can_be_kept(storage_client: storage.Client, bucket: str) -> None:
    source = put(storage_client, f"gs://{bucket}/in", lines(30))
    with Emulator(habits=Habits(shuffles=False)) as emulator:
        rows = predictions(storage_client, run(emulator, source, f"gs://{bucket}/out"))
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(30)]


class TestBigQuery:
    @pytest.fixture
    def table(self, bigquery_client: bigquery.Client, dataset: str) -> str:
        """A table of six requests, one of which has a role that does not exist."""
        from google.cloud import bigquery

        schema = [
            bigquery.SchemaField("id", "INT64"),
            bigquery.SchemaField("key", "STRING"),
            bigquery.SchemaField("day", "DATE"),
            bigquery.SchemaField("at", "TIMESTAMP"),
            bigquery.SchemaField("price", "NUMERIC"),
            bigquery.SchemaField("extra", "JSON"),
            bigquery.SchemaField("request", "JSON"),
        ]
        more = {"day": "2026-01-02", "at": "2026-01-02T03:04:05Z", "price": "1.25", "extra": {"a": [1, None]}}
        rows = [{"id": n, **line, **more} for n, line in enumerate(lines(6, prefix="00"))]
        rows[4]["request"]["contents"][0]["role"] = "robot"
        config = bigquery.LoadJobConfig(schema=schema)
        bigquery_client.load_table_from_json(rows, f"{dataset}.input", job_config=config).result()
        return f"{dataset}.input"

    def rows(self, client: bigquery.Client, table: str) -> list[dict[str, Any]]:
        return sorted((dict(row.items()) for row in client.list_rows(table)), key=lambda row: row["key"])

    def test_a_table_in_and_a_table_out(
        self, emulator: Emulator, bigquery_client: bigquery.Client, table: str, dataset: str
    ) -> None:
        job = run(emulator, f"bq://{table}", f"bq://{dataset}.output")
        assert job["state"] == "JOB_STATE_SUCCEEDED", job
        assert job["completionStats"] == {"successfulCount": "5", "failedCount": "1"}
        assert job["outputInfo"] == {
            "bigqueryOutputDataset": f"bq://{dataset}",
            "bigqueryOutputTable": "output",
        }
        columns = [(f.name, f.field_type) for f in bigquery_client.get_table(f"{dataset}.output").schema]
        given = [(f.name, f.field_type) for f in bigquery_client.get_table(table).schema]
        assert columns == [*given, ("response", "JSON"), ("status", "STRING")]
        before, after = self.rows(bigquery_client, table), self.rows(bigquery_client, f"{dataset}.output")
        assert [{name: row[name] for name in before[0]} for row in after][1:] != []
        for was, now in zip(before, after, strict=True):
            assert {name: now[name] for name in was} == was
            assert bool(now["status"]) != bool(now["response"])
        assert [row["key"] for row in after if row["status"]] == ["004"]

    def test_an_output_table_is_replaced(
        self, emulator: Emulator, bigquery_client: bigquery.Client, table: str, dataset: str
    ) -> None:
        for _ in range(2):
            run(emulator, f"bq://{table}", f"bq://{dataset}.output")
        assert bigquery_client.get_table(f"{dataset}.output").num_rows == 6

    def test_an_output_uri_without_table_gets_one(
        self, emulator: Emulator, bigquery_client: bigquery.Client, table: str, dataset: str
    ) -> None:
        info = run(emulator, f"bq://{table}", f"bq://{dataset}")["outputInfo"]
        assert info["bigqueryOutputTable"].startswith("predictions_20")
        assert bigquery_client.get_table(f"{dataset}.{info['bigqueryOutputTable']}").num_rows == 6
        info = run(emulator, f"bq://{table}", f"bq://{bigquery_client.project}")["outputInfo"]
        made = f"{info['bigqueryOutputDataset'].removeprefix('bq://')}.{info['bigqueryOutputTable']}"
        assert bigquery_client.get_table(made).num_rows == 6

    def test_a_table_in_and_an_object_out(
        self, emulator: Emulator, storage_client: storage.Client, table: str, bucket: str
    ) -> None:
        job = run(emulator, f"bq://{table}", f"gs://{bucket}/out")
        rows = sorted(predictions(storage_client, job), key=lambda row: row["id"])
        # A table has types, so its strings do not become numbers.
        assert [row["key"] for row in rows] == [f"00{n}" for n in range(6)]
        assert rows[0]["extra"] == {"a": [1, None]}
        assert rows[0]["day"] == "2026-01-02"
        assert rows[0]["request"]["contents"][0]["parts"][0]["text"] == "Row 0 of it."

    def test_an_object_in_and_a_table_out(
        self,
        emulator: Emulator,
        storage_client: storage.Client,
        bigquery_client: bigquery.Client,
        bucket: str,
        dataset: str,
    ) -> None:
        rows = [{**line, "id": n, "share": n or 0.5} for n, line in enumerate(lines(4))]
        source = put(storage_client, f"gs://{bucket}/in", rows)
        job = run(emulator, source, f"bq://{dataset}.output")
        assert job["state"] == "JOB_STATE_SUCCEEDED", job
        columns = {f.name: f.field_type for f in bigquery_client.get_table(f"{dataset}.output").schema}
        assert columns == {
            "key": "STRING",
            "id": "INTEGER",
            "share": "FLOAT",
            "request": "JSON",
            "response": "JSON",
            "status": "STRING",
        }
        after = self.rows(bigquery_client, f"{dataset}.output")
        assert [(row["key"], row["id"]) for row in after] == [("k0", 0), ("k1", 1), ("k2", 2), ("k3", 3)]
        assert after[0]["response"]["candidates"][0]["content"]["parts"][0]["text"] == "Row 0 of it."

    def test_a_request_column_of_text(
        self, emulator: Emulator, bigquery_client: bigquery.Client, table: str, dataset: str
    ) -> None:
        select = f"SELECT key, TO_JSON_STRING(request) AS request FROM `{table}`"
        rows = "SELECT 'x', 'not json' UNION ALL SELECT 'y', NULL"
        bigquery_client.query(f"CREATE TABLE `{dataset}.text` AS {select} UNION ALL {rows}").result()
        job = run(emulator, f"bq://{dataset}.text", f"bq://{dataset}.output")
        assert job["completionStats"] == {"successfulCount": "5", "failedCount": "3"}
        after = {row["key"]: row for row in self.rows(bigquery_client, f"{dataset}.output")}
        assert after["x"]["request"] == "not json"
        assert after["y"]["request"] is None
        assert isinstance(after["000"]["request"], str)

    @pytest.mark.parametrize(
        ("columns", "complaint"),
        [
            ("'x' AS request, ['a'] AS tags", "`tags` has the unsupported type ARRAY"),
            ("'x' AS request, STRUCT(1 AS a) AS pair", "`pair` has the unsupported type"),
            (
                "'x' AS request, DATETIME '2026-01-01 00:00:00' AS at",
                "`at` has the unsupported type DATETIME",
            ),
            ("'x' AS request, 'y' AS response", "`response` is reserved"),
            ("'x' AS request, 'y' AS status", "`status` is reserved"),
            ("'x' AS prompt", "no column `request`"),
            ("1 AS request", "no column `request`"),
        ],
    )
    def test_a_table_that_cannot_be_used(
        self, emulator: Emulator, bigquery_client: bigquery.Client, dataset: str, columns: str, complaint: str
    ) -> None:
        bigquery_client.query(f"CREATE TABLE `{dataset}.bad` AS SELECT {columns}").result()
        job = run(emulator, f"bq://{dataset}.bad", f"bq://{dataset}.output")
        assert job["state"] == "JOB_STATE_FAILED"
        assert job["error"]["code"] == 3
        assert complaint in job["error"]["message"]

    def test_a_table_that_does_not_exist(self, emulator: Emulator, dataset: str) -> None:
        for uri in (f"bq://{dataset}.none", "bq://none"):
            error = run(emulator, uri, f"bq://{dataset}.output")["error"]
            assert error["code"] == 3
            assert "Not found: Table" in error["message"]

    def test_a_dataset_that_does_not_exist_fails_the_export(self, emulator: Emulator, table: str) -> None:
        job = run(emulator, f"bq://{table}", "bq://local-project.none.output")
        assert job["error"]["code"] == 13
        assert job["error"]["message"] == "Failed to export data. Not found: Dataset local-project:none"
        assert job["completionStats"]["successfulCount"] == "5"


def test_create_returns_the_first_state_even_if_the_job_has_ended_since() -> None:
    job = Job(JobName("p", "l", "1"), 1, {}, IMMEDIATE)
    job.finish(Outcome(JobState.FAILED))
    assert job.as_created()["state"] == "JOB_STATE_PENDING"


def test_a_job_that_cannot_reach_bigquery_names_the_variable(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST")
    error = run(emulator, "bq://p.d.t", "bq://p.d.o")["error"]
    assert error["code"] == 9
    assert "BIGQUERY_EMULATOR_HOST" in error["message"]
