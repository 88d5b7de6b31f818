from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import (
    InvalidParameterError,
    JobConflictError,
    ModelNotFoundError,
)
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs.identity import RUN_LABEL
from airflow_gemini_batch.jobs.spec import job_spec
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.tasks.links import BatchJobLink

if TYPE_CHECKING:
    from pathlib import Path

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack
    from tests.task_instance import TaskInstance

Context = Any
KWARGS = {
    "job_name",
    "poll_interval",
    "deadline",
    "cancel_on_kill",
    "gcp_conn_id",
    "impersonation_chain",
}


def creates(vertex: Emulator) -> list[Any]:
    return [r for r in vertex.requests if r.method == "POST" and r.path.endswith("/batchPredictionJobs")]


def test_a_job_is_created_as_asked(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, ti: TaskInstance
) -> None:
    name = GeminiBatchSubmitOperator(
        **submit_args, labels={"team": "data", "équipe": "données-日本"}
    ).execute(context)

    (job,) = vertex.jobs
    assert name == job["name"]
    assert JobName.parse(name).location == "global"
    assert job["model"].endswith("publishers/google/models/gemini-3.5-flash")
    assert job["inputConfig"]["gcsSource"]["uris"] == [submit_args["input_uri"]]
    assert job["outputConfig"]["gcsDestination"]["outputUriPrefix"] == submit_args["output_uri"]
    assert job["displayName"].startswith("dag.submit [")
    assert (job["labels"]["team"], job["labels"]["équipe"]) == ("data", "données-日本")
    assert job["labels"][RUN_LABEL] == ti.identity.key
    assert name.rpartition("/")[2] in ti.xcom[BatchJobLink.xcom_key]


def test_several_inputs_are_one_job(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    storage_client: storage.Client,
    bucket: str,
) -> None:
    storage_client.bucket(bucket).blob("more/x.jsonl").upload_from_string('{"key": "x", "request": {}}')
    submit_args["input_uri"] = [submit_args["input_uri"], f"gs://{bucket}/more/*.jsonl"]
    GeminiBatchSubmitOperator(**submit_args, preflight=False).execute(context)
    (job,) = vertex.jobs
    assert job["inputConfig"]["gcsSource"]["uris"] == submit_args["input_uri"]


@pytest.mark.parametrize("preflight", [None, False])
@pytest.mark.parametrize("also", ["in/*.jsonl", "in/**", "in/request[s].jsonl"])
def test_a_file_that_is_given_twice_creates_no_job(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    bucket: str,
    also: str,
    preflight: bool | None,
) -> None:
    """Each of its rows would be paid twice."""
    given = submit_args["input_uri"]
    submit_args["input_uri"] = [given, f"gs://{bucket}/{also}"]
    with pytest.raises(AirflowFailException, match="given twice") as caught:
        GeminiBatchSubmitOperator(**submit_args, preflight=preflight).execute(context)
    assert f"{given}'" in str(caught.value)
    assert f"by {given} and by gs://{bucket}/{also}" in str(caught.value)
    assert not creates(vertex)


def test_a_uri_that_is_given_twice_is_refused_when_the_dag_is_parsed(submit_args: dict[str, Any]) -> None:
    submit_args["input_uri"] = [submit_args["input_uri"]] * 2
    with pytest.raises(InvalidParameterError, match=r"it is given twice\. All its rows would"):
        GeminiBatchSubmitOperator(**submit_args)


def test_a_file_that_two_wildcards_match_by_now_creates_no_second_job(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    storage_client: storage.Client,
    bucket: str,
) -> None:
    submit_args["input_uri"] = [f"gs://{bucket}/in/*.jsonl", f"gs://{bucket}/in/later*"]
    blob = storage_client.bucket(bucket).blob("in/later.txt")
    blob.upload_from_string('{"key": "x", "request": {}}')
    first = GeminiBatchSubmitOperator(**submit_args, preflight=False).execute(context)
    storage_client.bucket(bucket).rename_blob(blob, "in/later.jsonl")
    with pytest.raises(AirflowFailException, match="given twice"):
        GeminiBatchSubmitOperator(**submit_args, preflight=False, force_new="again").execute(context)
    assert [job["name"] for job in vertex.jobs] == [first]


@pytest.mark.parametrize("preflight", [None, True, False])
def test_a_wildcard_that_can_be_read_in_two_ways_creates_no_job(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    storage_client: storage.Client,
    bucket: str,
    preflight: bool | None,
) -> None:
    old = [f"in/old/{number}.jsonl" for number in range(7)]
    for name in old:
        storage_client.bucket(bucket).blob(name).upload_from_string(b"{}")
    args = {**submit_args, "input_uri": [submit_args["input_uri"], f"gs://{bucket}/in/*.jsonl"]}
    with pytest.raises(AirflowFailException, match=r"read in two ways.*7 objects") as caught:
        GeminiBatchSubmitOperator(**args, preflight=preflight).execute(context)
    assert f"gs://{bucket}/in/old/0.jsonl" in str(caught.value)
    assert "and 2 more" in str(caught.value)
    assert not creates(vertex)
    # Both readings of ** are the same.
    args["input_uri"] = f"gs://{bucket}/in/**.jsonl"
    GeminiBatchSubmitOperator(**args, preflight=False).execute(context)
    assert len(creates(vertex)) == 1


def test_objects_added_in_a_deeper_folder_leave_the_job_alone(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    storage_client: storage.Client,
    bucket: str,
) -> None:
    """Neither a retry nor the landing of a job is refused for them."""
    args = {**submit_args, "input_uri": f"gs://{bucket}/in/*.jsonl"}
    first = GeminiBatchSubmitOperator(**args).execute(context)
    storage_client.bucket(bucket).blob("in/later/x.jsonl").upload_from_string(b"{}")
    assert GeminiBatchSubmitOperator(**args).execute(context) == first
    assert len(creates(vertex)) == 1


@pytest.mark.parametrize("name", ["in/part[1].jsonl", "in/what?.jsonl", "in/[a]/%5Bx%5D.jsonl"])
def test_a_name_with_characters_of_wildcards(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    storage_client: storage.Client,
    bucket: str,
    name: str,
) -> None:
    source = storage_client.bucket(bucket).blob("in/requests.jsonl")
    storage_client.bucket(bucket).copy_blob(source, storage_client.bucket(bucket), name)
    args = {**submit_args, "input_uri": f"gs://{bucket}/{name}", "wait_for_completion": True}
    GeminiBatchSubmitOperator(**args, deferrable=False, poll_interval=0.1).execute(context)
    (job,) = vertex.jobs
    assert job["state"] == "JOB_STATE_SUCCEEDED"


def test_a_retry_attaches(vertex: Emulator, submit_args: dict[str, Any], context: Context) -> None:
    first = GeminiBatchSubmitOperator(**submit_args).execute(context)
    second = GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert first == second
    assert len(creates(vertex)) == 1


@pytest.mark.parametrize("waits", [False, True])
def test_a_parameter_of_waiting_is_not_ignored_silently(
    submit_args: dict[str, Any],
    context: Context,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    waits: bool,
) -> None:
    args = {**submit_args, "wait_for_completion": waits, "deferrable": False, "poll_interval": 0.01}
    GeminiBatchSubmitOperator(**args, on_incomplete="continue").execute(context)
    # Airflow 3 writes the log of an operator to standard output here, Airflow 2 uses logging.
    logged = capsys.readouterr().out + caplog.text
    assert ("on_incomplete has no effect on this task" in logged) is not waits


def test_another_run_and_another_map_index_have_jobs_of_their_own(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, ti: TaskInstance
) -> None:
    names = [GeminiBatchSubmitOperator(**submit_args).execute(context)]
    ti.run_id = "manual__2026-01-02"
    names.append(GeminiBatchSubmitOperator(**submit_args).execute(context))
    ti.map_index = 3
    names.append(GeminiBatchSubmitOperator(**submit_args).execute(context))
    assert len(set(names)) == 3


def test_a_job_of_this_run_beyond_the_first_page_is_found(
    submit_args: dict[str, Any], context: Context, ti: TaskInstance
) -> None:
    mine = GeminiBatchSubmitOperator(**submit_args).execute(context)
    spec = job_spec(
        project="local-project",
        display_name=f"mentions {ti.identity.key}",
        **{name: value for name, value in submit_args.items() if name != "task_id"},
    )
    for _ in range(101):
        GeminiBatchHook().create_job(spec)
    assert GeminiBatchSubmitOperator(**submit_args).execute(context) == mine


def test_paying_again_is_on_purpose(vertex: Emulator, submit_args: dict[str, Any], context: Context) -> None:
    done = {**submit_args, "wait_for_completion": True, "deferrable": False, "poll_interval": 0.1}
    first = GeminiBatchSubmitOperator(**done).execute(context)
    tokens = [None, "", "False", False, True, True, "True", "2026-11-27", "2026-11-27"]
    names = [GeminiBatchSubmitOperator(**done, force_new=token).execute(context) for token in tokens]
    assert names[:4] == [first] * 4
    assert names[4] == names[5] == names[6] != first
    assert names[7] == names[8]
    assert len({first, *names}) == len(vertex.jobs) == 3


def test_a_changed_request_replaces_the_job_under_way(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, ti: TaskInstance
) -> None:
    slow = {**submit_args, "labels": {"emulator-pace": "reads-50"}}
    first = GeminiBatchSubmitOperator(**slow).execute(context)
    changed = {**slow, "model": "gemini-3.1-pro-preview"}
    with pytest.raises(AirflowFailException) as caught:
        GeminiBatchSubmitOperator(**changed, on_changed_input="fail").execute(context)
    assert isinstance(caught.value.__cause__, JobConflictError)

    ti.try_number = 2
    second = GeminiBatchSubmitOperator(**changed).execute(context)
    assert second != first
    states = {job["name"]: job["state"] for job in vertex.jobs}
    assert states[first] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")


def test_input_with_other_content_under_the_same_name_is_another_request(
    submit_args: dict[str, Any], context: Context, storage_client: Any, bucket: str
) -> None:
    first = GeminiBatchSubmitOperator(**submit_args).execute(context)
    blob = storage_client.bucket(bucket).blob("in/requests.jsonl")
    same = blob.download_as_bytes()
    blob.upload_from_string(same)
    assert GeminiBatchSubmitOperator(**submit_args).execute(context) == first
    blob.upload_from_string(same.replace(b"Hello", b"Howdy"))
    assert GeminiBatchSubmitOperator(**submit_args).execute(context) != first


@pytest.mark.parametrize(
    "missing", ["gs://{bucket}/none.jsonl", "gs://{bucket}/none/*", "gs://no-bucket-here/x"]
)
def test_input_that_is_not_there_is_refused_before_anything_is_created(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, bucket: str, missing: str
) -> None:
    submit_args["input_uri"] = missing.format(bucket=bucket)
    with pytest.raises(AirflowFailException, match="input_uri="):
        GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert vertex.jobs == ()


def test_waiting_in_the_triggerer_carries_ids_only(submit_args: dict[str, Any], context: Context) -> None:
    slow = {**submit_args, "labels": {"emulator-pace": "reads-50"}}
    with pytest.raises(TaskDeferred) as caught:
        GeminiBatchSubmitOperator(**slow, wait_for_completion=True).execute(context)
    _, kwargs = caught.value.trigger.serialize()
    assert set(kwargs) == KWARGS
    assert caught.value.method_name == "execute_complete"


def test_an_unknown_model_is_explained(
    vertex: Emulator, submit_args: dict[str, Any], context: Context
) -> None:
    submit_args["model"] = "gemini-9000"
    with pytest.raises(AirflowFailException, match="Check that model is spelled correctly") as caught:
        GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert isinstance(caught.value.__cause__, ModelNotFoundError)
    assert vertex.jobs == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"location": "us-central1"},
            r"3\.5-flash is not offered in 'us-central1' but in .*global.*Set location",
        ),
        ({"model": "gemini-2.5-flash"}, r"closed to new projects on 2026-10-20.*Use gemini-3\.5-flash-lite"),
        ({"model": "gemini-3.5-flahs"}, r"Did you mean gemini-3\.5-flash\?"),
    ],
)
def test_a_model_that_is_not_found_is_explained_with_a_way_on(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        GeminiBatchSubmitOperator(**{**submit_args, **changes}).execute(context)
    assert vertex.jobs == ()


def test_a_model_that_retires_soon_is_warned_of_once(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    soon = datetime.now(UTC).date() + timedelta(days=30)
    facts = {"retires": f"{soon}", "replacement": "gemini-9-flash", "locations": ["eu", "global"]}
    models = tmp_path / "models.json"
    models.write_text(json.dumps({"as_of": "2026-11-01", "models": {"gemini-3.5-flash": facts}}))
    monkeypatch.setenv("GEMINI_BATCH_MODELS", str(models))
    for _ in range(2):
        GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert len(vertex.jobs) == 1
    warning = f"gemini-3.5-flash retires on {soon}. Use gemini-9-flash instead."
    assert caplog.messages.count(warning) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"location": None}, "location=None"),
        ({"input_uri": "requests.jsonl"}, "input_uri='requests.jsonl'"),
        ({"output_uri": ""}, "output_uri=''"),
        ({"on_changed_input": "panic"}, "on_changed_input='panic'"),
    ],
)
def test_a_bad_value_fails_for_good_before_anything_is_sent(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_LOCATION", raising=False)
    with pytest.raises(AirflowFailException, match=message) as caught:
        GeminiBatchSubmitOperator(**{**submit_args, **changes}).execute(context)
    assert isinstance(caught.value.__cause__, InvalidParameterError)
    assert vertex.requests == ()


def test_location_comes_from_the_environment_when_not_given(
    submit_args: dict[str, Any], context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "europe-west3")
    del submit_args["location"]
    name = GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert JobName.parse(name).location == "europe-west3"


@pytest.fixture
def request_table(stack: RunningStack, bigquery_client: bigquery.Client) -> Any:
    """Makes a table of requests in a dataset of the given location."""

    def make(location: str) -> str:
        from google.cloud import bigquery as bq

        dataset = bq.Dataset(f"{stack.project}.in_{location.replace('-', '_').lower()}")
        dataset.location = location
        bigquery_client.create_dataset(dataset, exists_ok=True)
        table = f"{stack.project}.{dataset.dataset_id}.requests"
        bigquery_client.query_and_wait(
            f"CREATE OR REPLACE TABLE `{table}` AS SELECT 'row-1' AS `key`, JSON "
            """'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}' AS request"""
        )
        return f"bq://{table}"

    return make


def test_a_table_in_the_jobs_region_is_read(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, request_table: Any
) -> None:
    submit_args |= {"input_uri": request_table("europe-west3"), "location": "europe-west3"}
    GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert vertex.jobs[0]["inputConfig"]["bigquerySource"]["inputUri"] == submit_args["input_uri"]


@pytest.mark.parametrize("region", ["US", "europe-west4"])
def test_a_table_that_lies_elsewhere_is_refused_before_anything_is_created(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, request_table: Any, region: str
) -> None:
    submit_args |= {"input_uri": request_table(region), "location": "europe-west3"}
    with pytest.raises(AirflowFailException, match=r"region"):
        GeminiBatchSubmitOperator(**submit_args).execute(context)
    assert creates(vertex) == []
