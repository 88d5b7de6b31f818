"""``@task.gemini_batch`` and the task group, against the local stack."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
    task,
)

from airflow_gemini_batch.decorators.gemini_batch import gemini_batch_task
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, RowFault, RowFaultKind
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.operators.requests import GeminiBatchRequestsOperator
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.task_groups import gemini_batch
from tests.small_jobs import MODEL, make_jobs_small

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.task_instance import TaskInstance

Context = Any
SCHEMA = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}

NO_TABLE = {"type": "object", "properties": {"_TABLE_name": {"type": "string"}}}


@pytest.fixture
def settings(vertex: Emulator, bucket: str) -> dict[str, Any]:
    return {
        "model": "gemini-3.5-flash",
        "staging_uri": f"gs://{bucket}/staging",
        "location": "global",
        "poll_interval": 0.2,
    }


@pytest.fixture
def operator(settings: dict[str, Any]) -> Callable[..., Any]:
    """Makes the operator behind a decorated function."""

    def make(function: Callable[..., Any], *args: Any, **changes: Any) -> Any:
        with DAG("decorated", schedule=None):
            return gemini_batch_task(function, **{"task_id": "ask", **settings, **changes})(*args).operator

    return make


def sent(client: storage.Client, bucket: str) -> list[dict[str, Any]]:
    blobs = client.list_blobs(bucket, prefix="staging/requests/")
    data = b"".join(blob.download_as_bytes() for blob in blobs if blob.name.endswith(".jsonl"))
    return [json.loads(line) for line in data.split(b"\n") if line]


def texts(lines: list[dict[str, Any]]) -> list[str]:
    return [line["request"]["contents"][0]["parts"][0]["text"] for line in lines]


def test_airflow_offers_the_decorator() -> None:
    assert callable(task.gemini_batch)


@pytest.mark.parametrize(
    ("parameter", "value", "model"),
    [
        ("generation_config", {"presencePenalty": 1}, "gemini-3.7-flash"),
        ("generation_config", {"thinking_config": {"thinking_level": "minimal"}}, "gemini-3.7-flash"),
        ("generation_config", {"maxOutputTokens": 65_537}, "gemini-3.5-flash"),
        ("generation_config", {"cached_content": "projects/1/locations/us/cachedContents/2"}, "our-own"),
        ("tools", [{"functionDeclarations": [{"name": "get weather!"}]}], "our-own"),
    ],
)
def test_a_shared_value_that_the_model_refuses_is_refused_first(
    operator: Callable[..., Any], vertex: Emulator, context: Context, parameter: str, value: Any, model: str
) -> None:
    called: list[int] = []
    decorated = operator(lambda: called.append(1) or ["a"], model=model, **{parameter: value})
    with pytest.raises(AirflowFailException, match=f"{parameter}=.*every request would be refused") as error:
        decorated.execute(context)
    assert isinstance(error.value.__cause__, InvalidParameterError)
    assert model in str(error.value)
    assert not called
    assert not vertex.jobs


def finish(face: Any, context: Context) -> Any:
    """Execute, wait as the triggerer would, resume."""

    async def first(trigger: Any) -> Any:
        return (await anext(trigger.run())).payload

    with pytest.raises(TaskDeferred) as caught:
        face.execute(context)
    return face.execute_complete(context, asyncio.run(first(caught.value.trigger)))


def test_from_prompts_to_rows(
    operator: Callable[..., Any], context: Context, dataset: str, bigquery_client: bigquery.Client
) -> None:
    def classify(words: list[str]) -> Any:
        for word in words:
            yield f"row-{word}", f"Classify {word}"

    face = operator(classify, ["a", "b", "c"], response_schema=SCHEMA, results_table=f"{dataset}.answers")
    manifest = finish(face, context)
    rows = list(bigquery_client.list_rows(f"{dataset}.answers"))
    assert {row["key"] for row in rows} == {"row-a", "row-b", "row-c"}
    assert all(row["status"] == "succeeded" and row["topic"] for row in rows)
    assert manifest["counts"]["succeeded"] == 3


def test_properties_with_the_names_of_fixed_columns(
    operator: Callable[..., Any], context: Context, dataset: str, bigquery_client: bigquery.Client
) -> None:
    names = ("status", "text", "key", "request", "output", "topic")
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": list(names),
    }
    face = operator(lambda: ["a", "b"], response_schema=schema, results_table=f"{dataset}.answers")
    assert finish(face, context)["counts"]["succeeded"] == 2
    for row in bigquery_client.list_rows(f"{dataset}.answers"):
        answer = row["output"] if isinstance(row["output"], dict) else json.loads(row["output"])
        columns = {name: row["topic" if name == "topic" else f"answer_{name}"] for name in names}
        assert columns == answer


def test_no_typed_columns_though_the_prompts_ask_for_a_schema(
    operator: Callable[..., Any], context: Context, dataset: str, bigquery_client: bigquery.Client
) -> None:
    config = {"responseSchema": ResponseSchema.of(SCHEMA).for_request()}
    columns = {}
    for table, given in (("found", None), ("none", False)):
        face = operator(
            lambda: ["a", "b"],
            task_id=table,
            generation_config={**config, "responseMimeType": "application/json"},
            response_schema=given,
            results_table=f"{dataset}.{table}",
        )
        context["ti"].task_id = table
        assert finish(face, context)["counts"]["succeeded"] == 2
        columns[table] = {field.name for field in bigquery_client.get_table(f"{dataset}.{table}").schema}
    assert columns["found"] - columns["none"] == {"topic"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_success_ratio": 2},
        {"write_mode": "upsert"},
        {"error_table": "no-table"},
        {"media_uri_prefix": "a"},
        {"response_schema": NO_TABLE},
        {"response_schema": {"type": "object", "properties": {"a": {}, "A": {}}}},
    ],
    ids=str,
)
def test_how_to_land_is_checked_before_anything_is_paid(
    operator: Callable[..., Any],
    context: Context,
    vertex: Emulator,
    bucket: str,
    storage_client: storage.Client,
    wrong: dict[str, Any],
) -> None:
    (parameter,) = wrong
    with pytest.raises(AirflowFailException, match=parameter):
        operator(lambda: ["a"], results_table="d.answers", **wrong).execute(context)
    assert not vertex.jobs
    assert not list(storage_client.list_blobs(bucket))


def test_a_gate_fails_the_decorated_task_after_landing(
    operator: Callable[..., Any], context: Context, ti: TaskInstance, vertex: Emulator, dataset: str
) -> None:
    vertex.faults = FaultPlan(rows=[RowFault(kind=RowFaultKind.DROPPED, nth=(1,))])
    face = operator(lambda: ["a", "b"], results_table=f"{dataset}.answers", min_success_ratio=0.6)
    with pytest.raises(AirflowFailException, match=r"1 of 2 rows .* min_success_ratio is 0\.6"):
        finish(face, context)
    assert ti.xcom["return_value"]["counts"]["missing"] == 1


def test_the_task_group(settings: dict[str, Any]) -> None:
    del settings["poll_interval"]
    with DAG("grouped", schedule=None) as dag:
        gemini_batch(lambda: ["a"], **settings, group_id="ask", results_table="d.answers")
        gemini_batch(lambda: ["a"], **settings, group_id="other", submit={"labels": {"a": "b"}})
    after = {task_id: dag.get_task(task_id).downstream_task_ids for task_id in dag.task_ids}
    assert after == {
        "ask.requests": {"ask.job.submit"},
        "ask.job.submit": {"ask.job.wait", "ask.job.land"},
        "ask.job.wait": {"ask.job.land"},
        "ask.job.land": set(),
        "other.requests": {"other.job.submit"},
        "other.job.submit": {"other.job.wait"},
        "other.job.wait": set(),
    }


def test_a_task_group_refuses_a_wait_that_cannot_work_when_the_dag_is_parsed(
    settings: dict[str, Any],
) -> None:
    """Its task ``wait`` would refuse it, when the job is paid."""
    with DAG("grouped", schedule=None), pytest.raises(InvalidParameterError, match="wait_timeout='4h'"):
        gemini_batch(lambda: ["a"], **settings, wait_timeout="4h")  # type: ignore[arg-type]


@pytest.mark.parametrize("task_id", ["land", "retry"])
def test_a_task_group_refuses_a_schema_of_one_task_when_the_dag_is_parsed(
    settings: dict[str, Any], task_id: str
) -> None:
    """That task would refuse it, when the job is paid."""
    given: dict[str, Any] = {task_id: {"response_schema": NO_TABLE}}
    with DAG("grouped", schedule=None), pytest.raises(InvalidParameterError, match="_TABLE_name"):
        gemini_batch(lambda: ["a"], **settings, results_table="d.answers", max_retry_rounds=1, **given)


def test_a_task_group_refuses_a_schema_when_the_dag_is_parsed(settings: dict[str, Any]) -> None:
    """With the schema of the group, or of its first task; without retries too."""
    del settings["poll_interval"]
    schemas: tuple[dict[str, Any], ...] = (
        {"response_schema": NO_TABLE},
        {"requests": {"response_schema": NO_TABLE}},
    )
    for given in schemas:
        with DAG("grouped", schedule=None), pytest.raises(InvalidParameterError, match="_TABLE_name"):
            gemini_batch(lambda: ["a"], **settings, group_id="ask", results_table="d.answers", **given)


def test_a_task_group_leaves_to_default_args_what_it_is_not_given(settings: dict[str, Any]) -> None:
    defaults = {"gcp_conn_id": "mine", "usage_view": False}
    with DAG("grouped", schedule=None, default_args=defaults) as dag:
        gemini_batch(lambda: ["a"], **settings, results_table="d.answers")
    land = dag.get_task("gemini_batch.job.land")
    assert {name: getattr(land, name) for name in defaults} == defaults


DEFAULT_GATES = {"min_success_ratio": 0.0, "max_invalid_ratio": 1.0}


def test_gates_of_a_task_group_wait_for_its_retries(settings: dict[str, Any]) -> None:
    del settings["poll_interval"]
    land = {
        "min_success_ratio": 0.9,
        "max_invalid_ratio": 0.1,
        "error_table": "d.errors",
        "report_uri": "gs://bucket/r/",
        "media_uri_prefix": "gs://bucket/images",
    }
    with DAG("grouped", schedule=None) as dag:
        for rounds in (0, 2):
            gemini_batch(
                lambda: ["a"],
                **settings,
                group_id=f"rounds_{rounds}",
                results_table="d.answers",
                land=land,
                max_retry_rounds=rounds,
                retry={"max_invalid_ratio": 0.2} if rounds else None,
            )

    def told(task_id: str) -> dict[str, Any]:
        values = {name: getattr(dag.get_task(task_id), name) for name in land}
        return {name: value for name, value in values.items() if value not in (None, DEFAULT_GATES.get(name))}

    assert told("rounds_0.job.land") == land
    stored = {"error_table": "d.errors", "media_uri_prefix": "gs://bucket/images"}
    assert told("rounds_2.job.land") == {**stored, "report_uri": "gs://bucket/r/"}
    assert told("rounds_2.job.retry") == {
        "min_success_ratio": 0.9,
        "max_invalid_ratio": 0.2,
        **stored,
    }


@pytest.mark.parametrize(
    ("landing", "retrying"), [("merge", "merge"), ("truncate", "append"), ("append", "append")]
)
def test_a_task_group_merges_in_both_tasks(settings: dict[str, Any], landing: str, retrying: str) -> None:
    del settings["poll_interval"]
    with DAG("grouped", schedule=None) as dag:
        gemini_batch(
            lambda: ["a"],
            **settings,
            results_table="d.answers",
            land={"write_mode": landing},
            max_retry_rounds=1,
        )
    told = [dag.get_task(f"gemini_batch.job.{name}").write_mode for name in ("land", "retry")]
    assert told == [landing, retrying]


def test_prompts_are_no_templates(
    operator: Callable[..., Any], context: Context, storage_client: storage.Client, bucket: str
) -> None:
    prompts = ["{{ 1 + 1 }}", "{% if x %}", "{not} {a} {{field}}", "x.sql"]
    with pytest.raises(TaskDeferred):
        operator(lambda: prompts).execute(context)
    assert texts(sent(storage_client, bucket)) == prompts


def test_waiting_carries_ids_only(operator: Callable[..., Any], context: Context) -> None:
    with pytest.raises(TaskDeferred) as caught:
        operator(lambda: ["secret"], labels={"emulator-pace": "reads-50"}).execute(context)
    assert "secret" not in str(caught.value.trigger.serialize())
    assert caught.value.method_name == "execute_complete"


def test_without_deferral_and_without_a_table(
    operator: Callable[..., Any], context: Context, vertex: Emulator
) -> None:
    name = operator(lambda: {"k1": "a", "k2": "b"}, deferrable=False).execute(context)
    (job,) = vertex.jobs
    assert (name, job["completionStats"]["successfulCount"]) == (job["name"], "2")


def test_a_retry_attaches(operator: Callable[..., Any], context: Context, vertex: Emulator) -> None:
    slow = {"labels": {"emulator-pace": "reads-50"}}
    for _ in range(2):
        with pytest.raises(TaskDeferred):
            operator(lambda: ["a", "b"], **slow).execute(context)
    assert len(vertex.jobs) == 1


def test_a_retry_with_other_requests_says_so(
    operator: Callable[..., Any],
    context: Context,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    counter = itertools.count(1)
    face = operator(lambda: [f"Prompt {next(counter)}"])
    for attempt in (1, 2):
        with pytest.raises(TaskDeferred):
            face.execute(context)
        # Airflow 3 writes a task's log to the standard output, Airflow 2 to Python's logging.
        said = capsys.readouterr().out + caplog.text
        assert ("keys or content have changed" in said) is (attempt == 2)
        assert ("not deterministic" in said) is (attempt == 2)
        assert "Prompt 1" not in said


def test_nothing_to_ask(operator: Callable[..., Any], context: Context, vertex: Emulator) -> None:
    with pytest.raises(AirflowSkipException, match="nothing to submit"):
        operator(list).execute(context)
    assert vertex.jobs == ()


@pytest.mark.parametrize(
    ("returned", "changes", "message"),
    [
        (None, {}, "prompts=None"),
        (["a", 7], {}, "row 2"),
        (["a", "a"], {}, r"rows 1 and 2.*same key"),
        (["a"], {"staging_uri": "bucket"}, "staging_uri='bucket'"),
        (["a"], {"staging_uri": None}, "GEMINI_BATCH_STAGING_URI"),
        (["a"], {"results_table": "d.t", "wait_for_completion": False}, "wait_for_completion=False"),
        (["a"], {"tools": [{"googleSearch": {}}]}, r"whole job would fail.*no fields"),
        (["a"], {"model": "a b"}, "model='a b'"),
    ],
)
def test_what_cannot_work_fails_for_good(
    operator: Callable[..., Any],
    context: Context,
    vertex: Emulator,
    returned: Any,
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GEMINI_BATCH_STAGING_URI", raising=False)
    with pytest.raises(AirflowFailException, match=message):
        operator(lambda: returned, **changes).execute(context)
    assert vertex.jobs == ()


def test_more_than_one_job_takes(
    operator: Callable[..., Any], context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_jobs_small(monkeypatch, tmp_path, 2)
    with pytest.raises(AirflowFailException, match=r"over 2 requests.*task group gemini_batch\(\)"):
        operator(lambda: ["a", "b", "c"]).execute(context)


def test_no_schema_in_a_task_group(
    settings: dict[str, Any], context: Context, storage_client: storage.Client, bucket: str
) -> None:
    """Every task is told, and that which builds requests asks for none."""
    del settings["poll_interval"]
    with DAG("grouped", schedule=None) as dag:
        gemini_batch(
            lambda: ["a"],
            **settings,
            group_id="ask",
            response_schema=False,
            results_table="d.answers",
            max_retry_rounds=1,
        )
    landing = [dag.get_task(f"ask.job.{name}").response_schema for name in ("land", "retry")]
    assert landing == [False, False]
    dag.get_task("ask.requests").execute(context)
    (line,) = sent(storage_client, bucket)
    assert "generationConfig" not in line["request"]


def test_the_requests_operator_returns_an_object_for_each_job(
    settings: dict[str, Any],
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ti: TaskInstance,
) -> None:
    make_jobs_small(monkeypatch, tmp_path, 2)
    build = GeminiBatchRequestsOperator(
        task_id="build",
        python_callable=lambda rows: rows,
        op_args=[[{"n": 1}, {"n": 2}, {"n": 3}]],
        template="Number {n}",
        staging_uri=settings["staging_uri"],
        model=MODEL,
    )
    uris = build.execute(context)
    assert len(uris) == 2
    assert all(uri.startswith(f"{settings['staging_uri']}/requests/{ti.identity.key}/") for uri in uris)
    assert build.execute(context) == uris
