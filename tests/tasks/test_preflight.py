"""The input is read before it costs anything."""

from __future__ import annotations

import json
import logging
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.exceptions import InvalidParameterError, JobEndedError
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.requests.checking import preflight
from airflow_gemini_batch.requests.checking.import_check import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

Context = Any
Args = dict[str, Any]
PROMPT = "Name a river."
STRICT = "gemini-3.7-flash"
TEXT_PARTS = '{"contents": [{"role": "user", "parts": "Give me a recipe"}]}'


def line(number: int, **request: Any) -> str:
    contents = [{"role": "user", "parts": [{"text": PROMPT}]}]
    return json.dumps({"key": f"k{number}", "request": {"contents": contents, **request}}) + "\n"


def put(client: storage.Client, uri: str, *lines: str) -> None:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    client.bucket(bucket).blob(name).upload_from_string("".join(lines))


@pytest.fixture
def bad_args(submit_args: Args, storage_client: storage.Client) -> Args:
    """Input of which one line would fail the job."""
    put(storage_client, submit_args["input_uri"], line(1), line(2, tools=[{"google_search": {}}]))
    return submit_args


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is logged as a warning."""
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Handler(logging.WARNING)
    log = logging.getLogger("airflow_gemini_batch.requests")
    log.addHandler(handler)
    yield messages
    log.removeHandler(handler)


def test_input_that_would_fail_the_job_creates_none(
    vertex: Emulator, bad_args: Args, context: Context
) -> None:
    with pytest.raises(AirflowFailException) as error:
        GeminiBatchSubmitOperator(**bad_args).execute(context)
    assert isinstance(error.value.__cause__, InvalidParameterError)
    message = str(error.value)
    assert "Cannot store struct 'request.tools.google_search' with no fields" in message
    assert f"first in line 2 (key 'k2') of {bad_args['input_uri']}" in message
    assert "preflight=False" in message
    assert PROMPT not in message
    assert not vertex.jobs


def test_without_a_check_the_service_says_it_later(
    vertex: Emulator, bad_args: Args, context: Context
) -> None:
    GeminiBatchSubmitOperator(**bad_args, preflight=False).execute(context)
    (job,) = vertex.jobs
    assert "Cannot store struct" in job["error"]["message"]


def test_rows_that_would_fail_are_told_in_one_line(
    vertex: Emulator,
    submit_args: Args,
    storage_client: storage.Client,
    context: Context,
    warnings: list[str],
) -> None:
    put(storage_client, submit_args["input_uri"], line(1), line(2, topic="x"), line(3, topic="x"), line(3))
    GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert len(vertex.jobs) == 1
    (warning,) = warnings
    assert "unknown-field 2 × at $.request.topic, first in line 2 (key 'k2')" in warning
    assert "duplicate-key 1 ×" in warning
    assert PROMPT not in warning


def test_rows_that_the_model_would_refuse_are_told(
    vertex: Emulator,
    submit_args: Args,
    storage_client: storage.Client,
    context: Context,
    warnings: list[str],
) -> None:
    refused = line(2, generationConfig={"presencePenalty": 1})
    put(storage_client, submit_args["input_uri"], line(1), refused)
    strict = {**submit_args, "model": STRICT, "location": "global"}
    name = GeminiBatchSubmitOperator(**strict).execute(context)
    (warning,) = warnings
    at = "$.request.generationConfig.presencePenalty"
    assert f"refused-by-model 1 × at {at}, first in line 2 (key 'k2')" in warning
    # The stand-in refuses the same row.
    (job,) = vertex.jobs
    assert (job["name"], job["completionStats"]) == (name, {"successfulCount": "1", "failedCount": "1"})


def test_input_that_is_fine_is_not_talked_about(
    vertex: Emulator, submit_args: Args, context: Context, warnings: list[str]
) -> None:
    GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert len(vertex.jobs) == 1
    assert warnings == []


def test_large_input_is_checked_when_asked_for(
    vertex: Emulator, bad_args: Args, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "MAX_BYTES", 100)
    GeminiBatchSubmitOperator(**bad_args).execute(context)
    vertex.clear()
    with pytest.raises(AirflowFailException, match="Cannot store struct"):
        GeminiBatchSubmitOperator(**bad_args, preflight=True).execute(context)
    assert not vertex.jobs


def test_a_retry_that_attaches_reads_nothing(
    vertex: Emulator, submit_args: Args, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    start_file = Check.start_file

    def counted(check: Check, name: str) -> None:
        read.append(name)
        start_file(check, name)

    monkeypatch.setattr(Check, "start_file", counted)
    for _ in range(2):
        GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert read == [submit_args["input_uri"]]
    assert len(vertex.jobs) == 1


def test_the_rules_are_those_of_all_files_together(
    vertex: Emulator, submit_args: Args, storage_client: storage.Client, bucket: str, context: Context
) -> None:
    put(storage_client, f"gs://{bucket}/in/1.jsonl", line(1, generationConfig={"stopSequences": ["."]}))
    put(storage_client, f"gs://{bucket}/in/2.jsonl", line(2, generationConfig={"stopSequences": "."}))
    submit_args["input_uri"] = [f"gs://{bucket}/in/{n}.jsonl" for n in (1, 2)]
    with pytest.raises(AirflowFailException, match="Repeated field must be imported as a JSON array"):
        GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert not vertex.jobs


class TestTable:
    """A table as input is checked by one query, when asked for."""

    @pytest.fixture
    def submit(self, submit_args: Args, bigquery_client: bigquery.Client, context: Context) -> Any:
        """Make a table of a query and submit it with a check."""
        from google.cloud import bigquery

        dataset = bigquery.Dataset(f"{bigquery_client.project}.preflight_{uuid.uuid4().hex[:12]}")
        dataset.location = "us-central1"
        name = f"{bigquery_client.create_dataset(dataset).full_dataset_id}.input".replace(":", ".")

        def call(sql: str, **arguments: Any) -> str:
            bigquery_client.query(f"CREATE TABLE `{name}` AS {sql}").result()
            submit_args["input_uri"] = f"bq://{name}"
            settings = {**submit_args, "preflight": True, **arguments}
            return GeminiBatchSubmitOperator(**settings).execute(context)

        return call

    def request(self) -> str:
        return json.dumps({"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]})

    @pytest.mark.parametrize("column", ["'{}'", "PARSE_JSON('{}')"])
    def test_a_table_that_is_fine(
        self, submit: Any, vertex: Emulator, warnings: list[str], column: str
    ) -> None:
        submit(f"SELECT 'a' AS key, {column.format(self.request())} AS request")
        assert len(vertex.jobs) == 1
        assert warnings == []

    def test_rows_that_would_fail_are_counted(
        self, submit: Any, vertex: Emulator, warnings: list[str]
    ) -> None:
        rows = [("'a'", self.request()), ("'a'", "not json"), ("NULL", "[1]"), ("'b'", self.request())]
        submit(" UNION ALL ".join(f"SELECT {key} AS key, '{text}' AS request" for key, text in rows))
        (warning,) = warnings
        assert "2 whose request is not a JSON object" in warning
        assert "1 without a key" in warning
        assert "1 with the key of another row" in warning
        assert len(vertex.jobs) == 1

    def test_rows_that_the_model_would_refuse_are_counted_by_rule(
        self, submit: Any, vertex: Emulator, warnings: list[str]
    ) -> None:
        contents = [{"role": "user", "parts": [{"text": PROMPT}]}]
        requests = [
            {"contents": contents},
            {"contents": contents, "generationConfig": {"presencePenalty": 1, "frequencyPenalty": 1}},
            {"contents": contents, "generation_config": {"presence_penalty": 0}},
            {"contents": contents, "cachedContent": "projects/1/locations/global/cachedContents/2"},
        ]
        texts = enumerate(map(json.dumps, requests))
        selected = " UNION ALL ".join(f"SELECT 'k{n}' AS key, '{text}' AS request" for n, text in texts)
        submit(selected, model=STRICT)
        (warning,) = warnings
        assert (
            "3 rows would fail: cached-content cachedContent 1 ×, refused-by-model presencePenalty 2 ×, "
            "refused-by-model frequencyPenalty 1 ×" in warning
        )
        assert PROMPT not in warning
        assert len(vertex.jobs) == 1

    @pytest.mark.parametrize(
        ("columns", "complaint"),
        [
            ("'x' AS prompt", "needs a column `request`"),
            ("'{}' AS request, 'x' AS status", "batch output adds a column `status`"),
            ("'{}' AS request, [1] AS ids", "column `ids` is ARRAY"),
            ("'{}' AS request, STRUCT(1 AS a) AS s", "column `s` is "),
            ("'{}' AS request FROM UNNEST([1]) WHERE FALSE", "it has no rows"),
            (f"'{TEXT_PARTS}' AS request", "1 row with text, a number or a boolean"),
            (f"JSON '{TEXT_PARTS}' AS request", "1 row with text"),
            ("""'{"contents": ["a", "b"]}' AS request""", "1 row with text"),
            ("""'{"contents": "a"}' AS request""", "1 row with text"),
            ("""'{"contents": {"parts": ["a"]}}' AS request""", "1 row with text"),
            (
                """'{"contents": [], "system_instruction": {"parts": 7}}' AS request""",
                "1 row with text",
            ),
            ("""'{"contents": [], "systemInstruction": "a"}' AS request""", "1 row with text"),
        ],
    )
    def test_a_table_that_no_job_takes(
        self, submit: Any, vertex: Emulator, columns: str, complaint: str
    ) -> None:
        with pytest.raises(AirflowFailException, match=complaint):
            submit(f"SELECT {columns}")
        assert not vertex.jobs

    @pytest.mark.parametrize(
        "request_",
        [
            '{"contents": {"parts": {"text": "a"}}, "systemInstruction": {"parts": [{"text": "a"}]}}',
            '{"contents": [{"parts": [{"text": "a", "fileData": null}]}], "systemInstruction": null}',
            '{"contents": [{"parts": null}, null], "tools": [{"functionDeclarations": {"parts": "a"}}]}',
            '{"contents": [{"parts": [{"functionCall": {"name": "f", "args": {"parts": "a"}}}]}]}',
        ],
    )
    def test_objects_in_every_form_are_no_text(self, submit: Any, vertex: Emulator, request_: str) -> None:
        submit(f"SELECT 'a' AS key, '{request_}' AS request")
        assert len(vertex.jobs) == 1

    def test_without_a_check_text_for_an_object_fails_the_whole_job(
        self, submit: Any, vertex: Emulator
    ) -> None:
        """As on the service, by a public report: with code 13, whatever the other rows are."""
        rows = (TEXT_PARTS, self.request())
        sql = " UNION ALL ".join(f"SELECT 'k{n}' AS key, '{row}' AS request" for n, row in enumerate(rows))
        waits = {"wait_for_completion": True, "deferrable": False, "poll_interval": 0.1}
        with pytest.raises(JobEndedError, match="code 13"):
            submit(sql, preflight=False, **waits)
        (job,) = vertex.jobs
        assert job["error"]["code"] == 13

    def test_no_query_is_run_unless_asked_for(self, submit: Any, vertex: Emulator) -> None:
        submit("SELECT '{}' AS request, 'x' AS status", preflight=None)
        assert len(vertex.jobs) == 1


@pytest.mark.parametrize(
    "output", ["gs://{bucket}-gone/out", "bq://{dataset}_gone.answers", "bq://{dataset}_gone"]
)
def test_a_job_that_could_not_write_its_output_is_not_created(
    vertex: Emulator, submit_args: Args, context: Context, bucket: str, dataset: str, output: str
) -> None:
    """The service would answer and charge all rows, and then fail."""
    output_uri = output.format(bucket=bucket, dataset=dataset)
    with pytest.raises(AirflowFailException, match=r"output_uri='.*_?gone.*does not exist.*create it"):
        GeminiBatchSubmitOperator(**{**submit_args, "output_uri": output_uri}).execute(context)
    assert not vertex.jobs
