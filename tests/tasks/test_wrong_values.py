"""Mistakes of users: when each is refused, and by which words. No job is created by any of them.

``PARSED``: Airflow shows the message as an error of the DAG file. ``RUN``: the task fails without a retry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_gemini_batch.decorators.gemini_batch import gemini_batch_task
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from airflow_gemini_batch.task_groups import gemini_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

Given = dict[str, Any]
PARSED, RUN = "parsed", "run"
NAME = "projects/local-project/locations/global/batchPredictionJobs/123"
FORM_OF_NAME = "give the full resource name that GeminiBatchSubmitOperator returns"
GENERATOR = (prompt for prompt in ("a", "b"))


class Review:
    """What is no schema."""


SUBMIT: list[tuple[str, Given, str, str]] = [
    ("another scheme", {"input_uri": "s3://my-bucket/in.jsonl"}, PARSED, "must start with gs://"),
    ("no scheme", {"input_uri": "my-bucket/in.jsonl"}, PARSED, "must start with gs://"),
    ("a local file", {"input_uri": "/home/me/in.jsonl"}, PARSED, "must start with gs://"),
    ("a link", {"input_uri": "https://storage.cloud.google.com/b/in.jsonl"}, PARSED, "must start with gs://"),
    ("a folder", {"input_uri": "gs://my-bucket/requests/"}, PARSED, "give an object or a pattern"),
    ("no input", {"input_uri": []}, PARSED, "give gs://bucket/file.jsonl"),
    ("input that is a number", {"input_uri": 7}, PARSED, "give gs://bucket/file.jsonl"),
    ("a table of two parts", {"input_uri": "bq://my_dataset.requests"}, PARSED, "bq://project.dataset.table"),
    (
        "files and a table",
        {"input_uri": ["gs://bucket/a", "bq://p.d.t"]},
        PARSED,
        "one BigQuery table or",
    ),
    ("no such bucket", {"input_uri": "gs://no-such-bucket/in.jsonl"}, RUN, "no-such-bucket.*does not exist"),
    ("no such object", {"input_uri": "gs://{bucket}/gone.jsonl"}, RUN, "gone.jsonl.*does not exist"),
    ("a template without a value", {"input_uri": "None"}, PARSED, "a template without a value renders to"),
    ("an empty template", {"input_uri": ""}, PARSED, "a template without a value renders to"),
    (
        "no such output bucket",
        {"output_uri": "gs://no-such-bucket/out"},
        RUN,
        "no-such-bucket does not exist",
    ),
    (
        "output that is a list",
        {"output_uri": ["gs://my-bucket/out"]},
        PARSED,
        "output_uri=.*gs://bucket/prefix",
    ),
    ("a misspelled model", {"model": "gemini-3.5-flsh"}, RUN, "Did you mean gemini-3.5-flash"),
    ("a retired model", {"model": "gemini-1.5-flash-002"}, RUN, "gemini-1.5-flash.*retired"),
    ("several models", {"model": ["gemini-3.5-flash"]}, PARSED, "model=.*give a model id such as"),
    ("no model", {"model": None}, RUN, "model=None: give a model id"),
    ("an empty model", {"model": ""}, PARSED, "a template without a value renders to"),
    ("a misspelled region", {"location": "us-cental1"}, RUN, "unknown location; did you mean 'us-central1'"),
    ("a misspelled area", {"location": "euorpe-west4"}, RUN, "did you mean 'europe-west4'"),
    ("a location in capitals", {"location": "US"}, PARSED, "give 'global', 'us', 'eu' or a region"),
    ("a zone", {"location": "us-central1-a"}, PARSED, "give 'global', 'us', 'eu' or a region"),
    ("a label in capitals", {"labels": {"Team": "x"}}, PARSED, "labels='Team': a label key has"),
    ("a label that is a number", {"labels": {"team": 5}}, PARSED, r"labels\['team'\]=5: a label value"),
    ("labels that are text", {"labels": "team=x"}, PARSED, "labels='team=x': give a dict"),
    ("a negative interval", {"poll_interval": -5}, PARSED, "poll_interval=-5: give a number of seconds"),
    ("an interval that is text", {"poll_interval": "60"}, PARSED, "poll_interval='60': give a number"),
    ("a timeout that is text", {"wait_timeout": "4h"}, PARSED, "wait_timeout='4h': give a number of seconds"),
    (
        "a negative time to submit",
        {"submit_timeout": -1},
        PARSED,
        "submit_timeout=-1: give a number of seconds",
    ),
    ("a flag that is text", {"deferrable": "no"}, PARSED, "deferrable='no': give True or False"),
    ("another flag that is text", {"preflight": "yes"}, PARSED, "preflight='yes': give True or False"),
    (
        "what to do on a change",
        {"on_changed_input": "replace"},
        PARSED,
        "give 'cancel_and_replace' or 'fail'",
    ),
    ("a limit that is text", {"max_cost_usd": "20 USD"}, PARSED, "max_cost_usd='20 USD': give US dollars"),
    ("a negative limit", {"max_cost_usd": -1}, PARSED, "max_cost_usd=-1: give US dollars"),
    ("prices that are a list", {"prices": ["in", "out"]}, PARSED, r"prices=\[.*give \{'input': 0.12"),
    ("tokens that are text", {"estimated_output_tokens": "100"}, PARSED, "estimated_output_tokens='100'"),
    ("a key that is none", {"key_field": "a..b"}, PARSED, "key_field='a..b'"),
    (
        "no such dataset to land in",
        {"results_table": "gone.answers"},
        RUN,
        "dataset local-project.gone does not",
    ),
    ("no table to land in", {"results_table": "answers"}, PARSED, "results_table='answers': give"),
    ("a project that is a number", {"project_id": 5}, RUN, "project_id=5: give the ID or the number of"),
    (
        "credentials that are a number",
        {"impersonation_chain": 5},
        PARSED,
        "impersonation_chain=5: give the email address",
    ),
    ("a connection that is a number", {"gcp_conn_id": 5}, PARSED, "gcp_conn_id=5: give the ID of an Airflow"),
]
LINES = {
    "an array of objects": '[\n{"key": "a"},\n{"key": "b"}\n]\n',
    "prompts, not requests": '{"prompt": "a"}\n{"prompt": "b"}\n',
    "the format of OpenAI": '{"custom_id": "a", "method": "POST", "url": "/v1/chat", "body": {}}\n',
    "comma separated values": "id,prompt\n1,Hello\n",
}
WAIT: list[tuple[str, Given, str, str]] = [
    ("a bare ID", {"job_name": "1049363276428704042"}, PARSED, FORM_OF_NAME),
    ("an ID that is a number", {"job_name": 1049363276428704042}, PARSED, FORM_OF_NAME),
    ("a display name", {"job_name": "my_dag.submit"}, PARSED, FORM_OF_NAME),
    ("a name without a value", {"job_name": "None"}, PARSED, "a template without a value renders to this"),
    (
        "a list that a template made text",
        {"job_name": "['projects/p/locations/l/batchPredictionJobs/1']"},
        PARSED,
        "made text of a list",
    ),
    ("all jobs of a mapped task", {"job_name": [NAME, NAME]}, PARSED, r"use \.expand\(job_name=…\)"),
    ("no such job", {}, RUN, "was deleted, or it belongs to another"),
    ("another project", {"job_name": NAME.replace("local", "other")}, RUN, "another project or location"),
    ("no such choice", {"on_incomplete": "ignore"}, PARSED, "give 'fail' or 'continue'"),
    ("no interval", {"poll_interval": 0}, PARSED, "poll_interval=0: give a number of seconds greater than 0"),
    ("a timeout that is text", {"timeout": "4h"}, PARSED, "timeout='4h': give a number of seconds"),
]
LAND: list[tuple[str, Given, str, str]] = [
    ("no job", {"job_name": []}, PARSED, r"job_name=\[\]: it has no jobs; give the name of at least one"),
    ("a table without a dataset", {"destination_table": "answers"}, PARSED, "give 'project.dataset.table'"),
    ("a table of legacy SQL", {"destination_table": "p:d.answers"}, PARSED, "cannot be part of a name"),
    ("a partition", {"destination_table": "d.answers$20260101"}, PARSED, "remove the partition suffix"),
    ("no such write mode", {"write_mode": "overwrite"}, PARSED, "give 'append' or 'truncate' or 'merge'"),
    ("a ratio in percent", {"min_success_ratio": 95}, PARSED, "give a number from 0 to 1, such as 0.95"),
    (
        "a report in a local file",
        {"report_uri": "report.html"},
        PARSED,
        "give an object, gs://bucket/name.html",
    ),
    ("a schema that is a name", {"response_schema": "Review"}, PARSED, "response_schema at .*pydantic model"),
    (
        "a schema that is another class",
        {"response_schema": Review},
        PARSED,
        "response_schema at .*pydantic model",
    ),
    ("images nowhere", {"media_uri_prefix": "my-bucket/images"}, PARSED, "give gs://bucket/prefix"),
    (
        "failures among the answers",
        {"error_table": "my_dataset.answers"},
        PARSED,
        "need a table of their own",
    ),
    ("a quoted table", {"destination_table": "d.answers`"}, PARSED, "cannot be part of a name"),
    ("a project that is a number", {"project_id": 5}, RUN, "project_id=5: give the ID or the number of"),
    ("a flag that is text", {"include_request": "no"}, PARSED, "include_request='no': give True or False"),
    ("a project that is none", {"job_name": "123"}, PARSED, FORM_OF_NAME),
]
QUERY: list[tuple[str, Given, str]] = [
    ("no key", {"sql": "SELECT 'x' AS prompt"}, "select a column 'key' that is unique"),
    ("no prompt", {"sql": "SELECT 'a' AS key, 'x' AS text"}, "select either 'prompt' or 'request'"),
    (
        "the same key twice",
        {"sql": "SELECT 'a' AS key, x AS prompt FROM UNNEST(['x']) x, UNNEST([1, 2])"},
        "unique",
    ),
    (
        "a prompt that is NULL",
        {"sql": "SELECT 'a' AS key, CAST(NULL AS STRING) AS prompt"},
        "1 row whose prompt is NULL",
    ),
    ("no such column", {"sql": "SELECT nothing AS key FROM (SELECT 1 AS a)"}, "the BigQuery job has it"),
    ("no such table", {"sql": "SELECT * FROM my_dataset.nothing"}, "nothing|not found|does not exist"),
    ("no destination", {"destination_table": "requests"}, "destination_table='requests'"),
    ("another folder", {"export_uri": "my-bucket/x"}, "export_uri='my-bucket/x'"),
]
FUNCTIONS: list[tuple[str, Callable[[], Any], str]] = [
    ("nothing is returned", lambda: None, "a function must return or yield them"),
    ("a number is returned", lambda: 7, "a function must return or yield them"),
    ("text is returned", lambda: "Hello", "a function must return or yield them"),
    ("no prompt in a row", lambda: ["a", None], r"row 2.*prompt=None"),
    ("an empty prompt", lambda: [""], r"row 1.*it is empty"),
    ("the same key twice", lambda: [("a", "x"), ("a", "y")], r"prompts \(rows 1 and 2\) have the same key"),
    ("keys that look like numbers", lambda: [("1", "x")], "key='1': a key must start with a letter"),
    ("keys that are numbers", lambda: [(1, "x")], "key=1: pass text that starts with a letter"),
    ("rows without a template", lambda: [{"title": "a", "body": "b"}], r"\['body', 'title'\]"),
    ("messages of OpenAI", lambda: [{"role": "user", "content": "x"}], "prompt has the fields"),
    ("bytes", lambda: [b"x"], "prompt is of type bytes"),
]


def cases(table: Sequence[tuple[Any, ...]], *names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(names, [each[1:] for each in table], ids=[each[0] for each in table])


@pytest.fixture
def build(vertex: Emulator, bucket: str, dataset: str) -> Callable[[Callable[[], Any], Given], Any]:
    """Make what a DAG file makes, with the names of this test in the values."""

    def named(value: Any) -> Any:
        return value.format(bucket=bucket) if isinstance(value, str) else value

    def make(kind: Callable[..., Any], given: Given) -> Any:
        with DAG("mistakes", schedule=None):
            return kind(**{name: named(value) for name, value in given.items()})

    return make


def expect(when: str, words: str, make: Callable[[], Any], context: Any) -> None:
    """Make and run a task that is refused at one of the two moments."""
    if when == PARSED:
        with pytest.raises(InvalidParameterError, match=words) as parsed:
            make()
        # A mapped task is made when it runs.
        assert isinstance(parsed.value, AirflowFailException)
        return
    task = make()
    with pytest.raises(AirflowFailException, match=re.compile(words, re.DOTALL)):
        task.execute(context)


@pytest.mark.parametrize(
    ("given", "when", "words"), [each[1:] for each in SUBMIT], ids=[e[0] for e in SUBMIT]
)
def test_submit(
    build: Any, submit_args: Given, context: Any, vertex: Emulator, given: Given, when: str, words: str
) -> None:
    expect(when, words, lambda: build(GeminiBatchSubmitOperator, submit_args | given), context)
    assert vertex.jobs == ()


@pytest.mark.parametrize("text", LINES.values(), ids=LINES.keys())
def test_a_file_that_is_no_input(
    submit_args: Given, context: Any, vertex: Emulator, storage_client: storage.Client, bucket: str, text: str
) -> None:
    storage_client.bucket(bucket).blob("in/requests.jsonl").upload_from_string(text)
    with pytest.raises(AirflowFailException, match=r"(?s)job would fail.*gemini-batch validate"):
        GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert vertex.jobs == ()


@cases(WAIT, "given", "when", "words")
def test_wait(build: Any, context: Any, given: Given, when: str, words: str) -> None:
    here = {"deferrable": False, "poll_interval": 0.01}
    settings = {"task_id": "wait", "job_name": NAME, **here, **given}
    expect(when, words, lambda: build(GeminiBatchJobSensor, settings), context)


@cases(LAND, "given", "when", "words")
def test_land(build: Any, context: Any, given: Given, when: str, words: str) -> None:
    settings = {"task_id": "land", "job_name": NAME, "destination_table": "my_dataset.answers", **given}
    expect(when, words, lambda: build(GeminiBatchResultsToBigQueryOperator, settings), context)


@cases(QUERY, "given", "words")
def test_requests_of_a_query(build: Any, context: Any, regional: str, given: Given, words: str) -> None:
    settings = {
        "task_id": "build",
        "sql": "SELECT 'a' AS key, 'x' AS prompt",
        "destination_table": f"{regional}.requests",
        "location": "global",
        **given,
    }
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)) as error:
        build(BigQueryToGeminiBatchRequestsOperator, settings).execute(context)
    assert type(error.value).__module__.startswith(("airflow.", "airflow_gemini_batch."))


@pytest.mark.parametrize(
    ("function", "words"), [each[1:] for each in FUNCTIONS], ids=[e[0] for e in FUNCTIONS]
)
def test_prompts(
    build: Any, submit_args: Given, context: Any, vertex: Emulator, bucket: str, function: Any, words: str
) -> None:
    with pytest.raises(AirflowFailException, match=re.compile(words, re.DOTALL)):
        decorated(function, bucket).execute(context)
    assert vertex.jobs == ()


def decorated(function: Any, bucket: str, **more: Any) -> Any:
    staging = {"task_id": "ask", "staging_uri": f"gs://{bucket}/s"}
    settings = {"model": "gemini-3.5-flash", "location": "global", **staging, **more}
    with DAG("mistakes", schedule=None):
        return gemini_batch_task(function, **settings)().operator


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"template": "{title} {body}"}, r"template='body': the row has no such field; it has \['title'\]"),
        ({"staging_uri": "my-bucket/x"}, "staging_uri='my-bucket/x': give gs://bucket/prefix"),
        (
            {"staging_uri": None},
            r"staging_uri=None: .*or set \[gemini_batch\] staging_uri",
        ),
        ({"staging_uri": "gs://my-buckett/x"}, "staging_uri='gs://my-buckett/x': bucket my-buckett does not"),
        ({"generation_config": {"maxOutputToken": 5}}, "all 1 row would fail.*maxOutputToken"),
        ({"results_table": "gone.answers"}, "dataset local-project.gone does not exist"),
        ({"results_table": "{other}"}, "none of their columns; name another table"),
    ],
    ids=[
        *("no such field", "no folder", "no staging", "no such bucket", "a misspelled setting"),
        *("no such dataset", "another table"),
    ],
)
def test_the_decorator(
    vertex: Emulator,
    context: Any,
    bucket: str,
    dataset: str,
    bigquery_client: bigquery.Client,
    given: Given,
    words: str,
) -> None:
    bigquery_client.query_and_wait(f"CREATE TABLE `{dataset}.other` (ticket STRING)")
    if given.get("results_table") == "{other}":
        given = {"results_table": f"{dataset}.other"}
    with pytest.raises(AirflowFailException, match=words):
        decorated(lambda: [{"title": "x"} if "template" in given else "x"], bucket, **given).execute(context)
    assert vertex.jobs == ()


def test_a_function_that_fails_midway(
    context: Any, vertex: Emulator, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    def prompts() -> Any:
        yield from ("Secret one", "Secret two")
        raise ValueError("row 3 is broken")

    with pytest.raises(ValueError, match="row 3 is broken"):
        decorated(prompts, bucket).execute(context)
    assert "The function raised ValueError after 2 prompts. Nothing was submitted or charged." in caplog.text
    assert "Secret" not in caplog.text
    assert vertex.jobs == ()


FILES: Given = {"python_callable": None, "input_uri": "gs://bucket/in/*.jsonl"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"python_callable": GENERATOR}, "python_callable is of type generator: give the function itself"),
        ({"input_uri": "gs://b/in/*"}, "python_callable is set: leave it out, or leave out input_uri"),
        ({**FILES, "tools": [{}]}, "tools is set: leave it out, or leave out input_uri"),
        ({**FILES, "template": "{text}"}, "template is set: leave it out, or leave out input_uri"),
        ({**FILES, "input_uri": "in/*"}, "input_uri='in/\\*': must start with gs://"),
        ({"python_callable": None}, "python_callable=None: give the function itself"),
        ({"min_success_ratio": 0.9}, "min_success_ratio=0.9: .*give results_table as well"),
        ({"land": {"max_invalid_ratio": 0.1}}, "max_invalid_ratio=0.1: .*give results_table as well"),
        ({"max_retry_rounds": 1}, "max_retry_rounds=1: give results_table"),
        ({"poll_interval": "60"}, "poll_interval='60': give a number of seconds"),
        ({"results_table": "d.answers", "write_mode": "overwrite"}, "write_mode='overwrite': give 'append'"),
        ({"results_table": "d.answers", "error_table": "d.answers"}, "need a table of their own"),
    ],
    ids=[
        *("a generator", "two sources", "tools for files", "a template for files", "no file", "no source"),
        *("a gate", "a gate of a task", "retries", "an interval", "a write mode", "one table"),
    ],
)
def test_the_task_group(given: Given, words: str) -> None:
    settings = {"model": "gemini-3.5-flash", "location": "global", "staging_uri": "gs://bucket/s"}
    with DAG("mistakes", schedule=None), pytest.raises(InvalidParameterError, match=words):
        gemini_batch(**{"python_callable": lambda: ["a"], **settings, **given})


def test_the_task_group_looks_for_its_dataset_before_the_job(
    submit_args: Given, context: Any, vertex: Emulator
) -> None:
    settings = {"model": "gemini-3.5-flash", "location": "global", "staging_uri": "gs://bucket/s"}
    with DAG("grouped", schedule=None) as dag:
        gemini_batch(lambda: ["a"], **settings, results_table="gone.answers")
    assert dag.get_task("gemini_batch.job.submit").results_table == "gone.answers"


def test_there_are_as_many_as_were_found() -> None:
    tables: tuple[Any, ...] = (SUBMIT, LINES, WAIT, LAND, QUERY, FUNCTIONS)
    assert sum(map(len, tables)) >= 83


@pytest.mark.parametrize("nothing", ["", "None"])
@pytest.mark.parametrize(
    "name", sorted({*GeminiBatchSubmitOperator.template_fields} - {"force_new", "op_args", "op_kwargs"})
)
def test_a_template_that_renders_to_nothing_is_refused(
    build: Any, submit_args: Given, context: Any, vertex: Emulator, name: str, nothing: str
) -> None:
    task = build(GeminiBatchSubmitOperator, submit_args)
    setattr(task, name, nothing)
    with pytest.raises(AirflowFailException, match=f"{name}=.*a template without a value renders to this"):
        task.execute(context)
    assert vertex.jobs == ()


def test_a_template_that_renders_natively_to_nothing_is_refused(
    build: Any, submit_args: Given, context: Any, vertex: Emulator
) -> None:
    task = build(GeminiBatchSubmitOperator, submit_args | {"max_cost_usd": "{{{{ none }}}}"})
    task.max_cost_usd = None
    with pytest.raises(AirflowFailException, match="max_cost_usd=None: give a value"):
        task.execute(context)
    assert vertex.jobs == ()


@pytest.mark.parametrize("name", ["error_table", "media_uri_prefix", "report_uri", "project_id", "job_name"])
def test_landing_refuses_a_template_that_renders_to_nothing(build: Any, context: Any, name: str) -> None:
    settings = {"task_id": "land", "job_name": NAME, "destination_table": "my_dataset.answers"}
    task = build(GeminiBatchResultsToBigQueryOperator, settings)
    setattr(task, name, "")
    with pytest.raises(AirflowFailException, match=f"{name}=''"):
        task.execute(context)


def test_the_decorator_refuses_a_results_table_that_renders_to_nothing(
    context: Any, vertex: Emulator, bucket: str
) -> None:
    task = decorated(lambda: ["Hello"], bucket, results_table="{{ params.table }}")
    task.results_table = ""
    with pytest.raises(AirflowFailException, match="results_table=''"):
        task.execute(context)
    assert vertex.jobs == ()
