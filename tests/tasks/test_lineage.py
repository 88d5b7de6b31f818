"""What OpenLineage's own extractors get from operators that have really run."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.utils.state import TaskInstanceState
from openlineage.client.serde import Serde

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.decorators.gemini_batch import gemini_batch_task
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault, RowFault, RowFaultKind
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs.spec import job_spec
from airflow_gemini_batch.operators.combine import GeminiBatchCombineInputsOperator
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import (
    BigQueryToGeminiBatchRequestsOperator,
    GeminiBatchRequestsOperator,
)
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from tests.tasks.landed import FIRST, Landed, fired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack

Context = Any
SECRET = "the colour of the safe"


def lineage(operator: Any, state: TaskInstanceState, ti: Any = None) -> dict[str, Any]:
    """Return what the extractor makes of an operator, as JSON."""
    run = SimpleNamespace(run_id="run")
    found = ExtractorManager().extract_metadata(run, operator, state, ti)
    return {
        "inputs": [as_json(each) for each in found.inputs],
        "outputs": [as_json(each) for each in found.outputs],
        "run": {name: as_json(each) for name, each in found.run_facets.items()},
    }


def as_json(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Serde.to_json(model))
    return found


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["namespace"], each["name"]) for each in datasets]


def columns(dataset: dict[str, Any]) -> list[str]:
    return [each["name"] for each in dataset["facets"]["schema"]["fields"]]


def rows(dataset: dict[str, Any]) -> int | None:
    return dataset["outputFacets"].get("outputStatistics", {}).get("rowCount")


def run(operator: Any, context: Context) -> Any:
    """Execute an operator as Airflow does: it is in its context."""
    return operator.execute({**context, "task": operator})


START, COMPLETE, FAIL = TaskInstanceState.RUNNING, TaskInstanceState.SUCCESS, TaskInstanceState.FAILED


def test_a_task_that_submits(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, bucket: str
) -> None:
    operator = GeminiBatchSubmitOperator(**submit_args)
    data = {
        "inputs": [(f"gs://{bucket}", "in/requests.jsonl")],
        "outputs": [(f"gs://{bucket}", "out")],
    }
    before = lineage(operator, START)
    assert {name: names(before[name]) for name in data} == data
    assert before["run"] == {}
    assert len(vertex.requests) == 0  # Lineage asks nobody.
    name = run(operator, context)
    asked = len(vertex.requests)
    after = lineage(operator, COMPLETE)
    assert {each: names(after[each]) for each in data} == data
    assert after["run"]["externalQuery"]["externalQueryId"] == name
    assert after["run"]["externalQuery"]["source"] == "aiplatform.googleapis.com"
    (job,) = after["run"]["gemini_batch"]["jobs"]
    assert job == {
        "name": name,
        "model": "gemini-3.5-flash",
        "location": "global",
        "state": "JOB_STATE_PENDING",
    }
    assert len(vertex.requests) == asked


def test_facts_are_there_after_the_task_has_resumed(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, bucket: str
) -> None:
    """Another worker resumes it, with an operator that has seen nothing."""
    with pytest.raises(TaskDeferred) as deferred:
        run(GeminiBatchSubmitOperator(**submit_args, wait_for_completion=True, poll_interval=0.1), context)
    event = asyncio.run(fired(deferred.value.trigger))
    resumed = GeminiBatchSubmitOperator(**submit_args, wait_for_completion=True, poll_interval=0.1)
    name = resumed.execute_complete(context, event)
    found = lineage(resumed, COMPLETE)
    (job,) = found["run"]["gemini_batch"]["jobs"]
    assert (job["name"], job["model"], job["state"]) == (name, "gemini-3.5-flash", "JOB_STATE_SUCCEEDED")
    assert job["output_location"].startswith(f"gs://{bucket}/out/prediction-model-")
    assert names(found["outputs"]) == [(f"gs://{bucket}", "out")]


def test_a_sensor_names_the_data_of_its_job(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, bucket: str
) -> None:
    name = run(GeminiBatchSubmitOperator(**submit_args), context)
    sensor = GeminiBatchJobSensor(task_id="wait", job_name=name, deferrable=False, poll_interval=0.1)
    assert lineage(sensor, START) == {"inputs": [], "outputs": [], "run": {}}
    run(sensor, context)
    found = lineage(sensor, COMPLETE)
    assert names(found["inputs"]) == [(f"gs://{bucket}", "in/requests.jsonl")]
    assert names(found["outputs"]) == [(f"gs://{bucket}", "out")]


def test_a_job_that_failed_is_in_the_event_of_the_failure(
    vertex: Emulator, submit_args: dict[str, Any], context: Context
) -> None:
    vertex.faults = FaultPlan(jobs=[JobFault(ends=JobState.FAILED)])
    operator = GeminiBatchSubmitOperator(
        **submit_args, wait_for_completion=True, deferrable=False, poll_interval=0.1
    )
    with pytest.raises(AirflowFailException, match="ended FAILED"):
        run(operator, context)
    (job,) = lineage(operator, FAIL)["run"]["gemini_batch"]["jobs"]
    assert job["state"] == "JOB_STATE_FAILED"
    assert job["error_code"]
    assert "Hello" not in json.dumps(job)


def test_values_that_are_refused_make_an_event_without_data(context: Context) -> None:
    operator = GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name="{{ x }}", destination_table="{{ x }}"
    )
    operator.job_name, operator.destination_table = "nonsense", "non sense"
    with pytest.raises(AirflowFailException):
        run(operator, context)
    assert lineage(operator, FAIL) == {"inputs": [], "outputs": [], "run": {}}


@pytest.mark.parametrize("min_success_ratio", [0.0, 1.0])
def test_a_task_that_lands(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    bucket: str,
    dataset: str,
    min_success_ratio: float,
) -> None:
    """Also if it fails at a gate: the rows are landed."""
    vertex.faults = FaultPlan(rows=[RowFault(kind=RowFaultKind.DROPPED, nth=(2,))])
    submit = GeminiBatchSubmitOperator(
        **submit_args, wait_for_completion=True, deferrable=False, poll_interval=0.1
    )
    name = run(submit, context)
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "description": SECRET}},
    }
    table = f"{dataset}.answers"
    operator = GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=name,
        destination_table=table,
        response_schema=schema,
        min_success_ratio=min_success_ratio,
    )
    tables = [("bigquery", table), ("bigquery", f"{table}_errors")]
    assert names(lineage(operator, START)["outputs"]) == tables
    if min_success_ratio:
        with pytest.raises(AirflowFailException):
            run(operator, context)
    else:
        run(operator, context)
    found = lineage(operator, FAIL if min_success_ratio else COMPLETE)
    assert names(found["inputs"]) == [(f"gs://{bucket}", "in/requests.jsonl"), (f"gs://{bucket}", "out")]
    results, errors = found["outputs"]
    assert names([results, errors]) == tables
    assert columns(results) == [*(each.name for each in RESULT_COLUMNS), "answer"]
    assert columns(errors) == [each.name for each in ERROR_COLUMNS]
    assert rows(results) == 3
    facet = found["run"]["gemini_batch"]
    assert facet["jobCount"] == 1
    assert facet["rows"]["missing"] == 1
    assert rows(errors) == sum(facet["rows"].values()) - facet["rows"]["succeeded"]
    assert facet["tokens"]["total"] > 0
    assert facet["costUsd"] > 0
    assert facet["estimatedCostUsd"]["low"] > 0
    # Neither prompts, nor what the schema tells the model.
    assert SECRET not in json.dumps(found)
    assert "Hello" not in json.dumps(found)


@pytest.mark.any_airflow
def test_a_task_that_retries(land: Callable[..., Landed], vertex: Emulator, context: Context) -> None:
    landed = land(FIRST)
    operator = landed.make(deferrable=False)
    vertex.faults = FaultPlan()
    result = run(operator, context)
    found = lineage(operator, COMPLETE)
    assert result["rounds"]
    assert found["run"]["externalQuery"]["externalQueryId"] == result["rounds"][-1]["job_name"]
    tables = [("bigquery", landed.table), ("bigquery", f"{landed.table}_errors")]
    by_name = dict(zip(names(found["outputs"]), found["outputs"], strict=True))
    assert set(tables) <= set(by_name)
    assert set(tables) <= set(names(found["inputs"]))
    assert rows(by_name[tables[0]]) == result["rounds"][-1]["asked"]


def test_a_task_that_builds_requests_from_a_function(vertex: Emulator, context: Context, bucket: str) -> None:
    operator = GeminiBatchRequestsOperator(
        task_id="requests",
        python_callable=lambda: [SECRET, "another"],
        staging_uri=f"gs://{bucket}/staging",
    )
    (uri,) = run(operator, context)
    (output,) = lineage(operator, COMPLETE)["outputs"]
    assert f"{output['namespace']}/{output['name']}" == uri
    assert rows(output) == 2
    assert output["outputFacets"]["outputStatistics"]["size"] > 0
    assert SECRET not in json.dumps(output)


def test_a_task_that_builds_requests_from_a_query(
    vertex: Emulator, context: Context, dataset: str, regional: str, bigquery_client: bigquery.Client
) -> None:
    bigquery_client.query_and_wait(f"CREATE TABLE `{regional}.tickets` AS SELECT 'a' AS id, 'b' AS text")
    operator = BigQueryToGeminiBatchRequestsOperator(
        task_id="requests",
        sql=f"SELECT id AS key, CONCAT('{SECRET}', text) AS prompt FROM `{regional}.tickets`",
        destination_table=f"{regional}.requests",
        location="us-central1",
    )
    tickets, requests = ("bigquery", f"{regional}.tickets"), ("bigquery", f"{regional}.requests")
    before = lineage(operator, START)
    assert (names(before["inputs"]), names(before["outputs"])) == ([tickets], [requests])
    run(operator, context)
    after = lineage(operator, COMPLETE)
    assert (names(after["inputs"]), names(after["outputs"])) == ([tickets], [requests])
    assert rows(after["outputs"][0]) == 1
    assert SECRET not in json.dumps(after)


def test_a_decorated_task_does_all_of_it(
    vertex: Emulator, context: Context, bucket: str, dataset: str
) -> None:
    with DAG("decorated", schedule=None):
        operator: Any = gemini_batch_task(
            lambda: [SECRET, "another"],
            task_id="ask",
            model="gemini-3.5-flash",
            staging_uri=f"gs://{bucket}/staging",
            location="global",
            deferrable=False,
            poll_interval=0.1,
            results_table=f"{dataset}.answers",
        )().operator
    run(operator, context)
    found = lineage(operator, COMPLETE)
    tables = [("bigquery", f"{dataset}.{name}") for name in ("answers", "answers_errors")]
    output = (f"gs://{bucket}", "staging/results")
    assert names(found["outputs"]) == [output, *tables]
    assert names(found["inputs"])[0][1].startswith("staging/requests/")
    assert found["run"]["gemini_batch"]["rows"]["succeeded"] == 2
    assert SECRET not in json.dumps(found)


@pytest.mark.parametrize("composes", [True, False])
def test_a_task_that_combines_files(
    vertex: Emulator,
    context: Context,
    input_uri: str,
    bucket: str,
    storage_client: storage.Client,
    composes: bool,
) -> None:
    into = {"compose_into": f"gs://{bucket}/jobs"} if composes else {}
    operator = GeminiBatchCombineInputsOperator(
        task_id="combine", input_uri=f"gs://{bucket}/in/*.jsonl", model="gemini-3.5-flash", **into
    )
    groups = run(operator, context)
    found = lineage(operator, COMPLETE)
    assert names(found["inputs"]) == [(f"gs://{bucket}", "in")]
    uris = [f"{each['namespace']}/{each['name']}" for each in found["outputs"]]
    assert uris == (groups[0] if composes else [])


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Airflow's collector, as if a plugin read it."""
    try:
        from airflow.sdk import lineage as airflow_lineage
        from airflow.sdk import plugins_manager

        monkeypatch.setattr(plugins_manager, "get_hook_lineage_readers_plugins", lambda: [object])
        forget = airflow_lineage.get_hook_lineage_collector.cache_clear
    except ImportError:  # Airflow 2
        from airflow import plugins_manager
        from airflow.lineage import hook

        monkeypatch.setattr(plugins_manager, "hook_lineage_reader_classes", [object])
        forget = partial(setattr, hook, "_hook_lineage_collector", None)
    forget()
    yield get_hook_lineage_collector()
    forget()


def test_a_hook_reports_the_data_of_the_jobs_that_it_creates(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    collector: Any,
    stack: RunningStack,
    bucket: str,
) -> None:
    spec = job_spec(
        project=stack.project,
        **{name: submit_args[name] for name in ("location", "model", "input_uri", "output_uri")},
    )
    GeminiBatchHook().create_job(spec)
    collected = collector.collected_assets
    assert [each.asset.uri for each in collected.inputs] == [submit_args["input_uri"]]
    assert [each.asset.uri for each in collected.outputs] == [submit_args["output_uri"]]
    read = ExtractorManager().get_hook_lineage()
    assert read is not None
    found = [(each.namespace, each.name) for each in (*read.inputs, *read.outputs)]
    assert found == [(f"gs://{bucket}", "in/requests.jsonl"), (f"gs://{bucket}", "out")]
    # An operator has better facts, which OpenLineage reads in their place.
    run(GeminiBatchSubmitOperator(**submit_args), context)
    assert sum(each.count for each in collector.collected_assets.inputs) == 1
