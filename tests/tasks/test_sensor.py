from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import JobEndedError
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs.polling import utc_now
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator

Context = Any
MISSING = "projects/p/locations/global/batchPredictionJobs/404"


@pytest.fixture
def job_at(submit_args: dict[str, Any], context: Context) -> Any:
    """Submits a job that goes at the given pace."""

    def make(pace: str, **changes: Any) -> str:
        args = {**submit_args, "labels": {"emulator-pace": pace}, **changes}
        return str(GeminiBatchSubmitOperator(**args).execute(context))

    return make


def sensor(job_name: str, **kwargs: Any) -> GeminiBatchJobSensor:
    return GeminiBatchJobSensor(task_id="wait", job_name=job_name, poll_interval=0.05, **kwargs)


def fire(trigger: GeminiBatchJobTrigger) -> list[dict[str, Any]]:
    """Run a trigger as a triggerer would: built again from its serialized arguments."""
    path, kwargs = trigger.serialize()
    assert path.rpartition(".")[2] == "GeminiBatchJobTrigger"

    async def collect() -> list[dict[str, Any]]:
        return [event.payload async for event in GeminiBatchJobTrigger(**kwargs).run()]

    return asyncio.run(collect())


def wait_deferred(operator: GeminiBatchJobSensor, context: Context) -> dict[str, Any]:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    (event,) = fire(caught.value.trigger)
    return operator.execute_complete(context, event)


def test_a_waiting_job_is_left_to_the_triggerer(job_at: Any, context: Context) -> None:
    name = job_at("reads-2")
    result = wait_deferred(sensor(name), context)
    assert result["job_name"] == name
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert result["completion_stats"] == {"successful": 3, "failed": 0, "incomplete": 0}
    assert "/prediction-model-" in result["output_location"]


def test_a_job_that_has_ended_is_not_deferred(job_at: Any, context: Context) -> None:
    assert sensor(job_at("immediate")).execute(context)["state"] == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_poke_mode(job_at: Any, context: Context, mode: str) -> None:
    operator = sensor(job_at("reads-2"), deferrable=False)
    assert operator.execute(context)["state"] == "JOB_STATE_SUCCEEDED"


def test_each_state_is_logged_once_and_no_look_is(
    job_at: Any, context: Context, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    name = job_at("reads-4")
    with caplog.at_level(logging.INFO):
        wait_deferred(sensor(name), context)
    # Airflow 3 writes a task's log to standard output; Airflow 2 hands it to Python's logging.
    printed = capsys.readouterr().out
    lines = (printed if "is PENDING after" in printed else caplog.text).splitlines()
    for state in ("PENDING", "RUNNING", "SUCCEEDED"):
        assert sum(f"is {state} after" in line for line in lines) == 1
    assert not [line for line in lines if "HTTP" in line]


def test_a_cancelled_job_fails_the_task_with_all_that_is_known(job_at: Any, context: Context) -> None:
    name = job_at("reads-50")
    GeminiBatchHook().cancel_job(JobName.parse(name))
    with pytest.raises(AirflowFailException, match="ended CANCELLED") as caught:
        wait_deferred(sensor(name), context)
    assert isinstance(caught.value.__cause__, JobEndedError)
    assert str(caught.value.__cause__.job.name) == name


def test_a_failed_job_says_what_the_service_said(job_at: Any, context: Context) -> None:
    name = job_at("immediate", output_uri="gs://no-such-bucket-anywhere/out", preflight=False)
    with pytest.raises(
        AirflowFailException, match=r"ended FAILED.*Vertex AI reported: .*code 9.*nothing should be charged"
    ):
        sensor(name).execute(context)
    with pytest.raises(AirflowFailException, match="ended FAILED"):
        sensor(name, deferrable=False).execute(context)


@pytest.mark.parametrize("deferrable", [True, False])
def test_soft_fail_skips(job_at: Any, context: Context, deferrable: bool) -> None:
    name = job_at("immediate", output_uri="gs://no-such-bucket-anywhere/out", preflight=False)
    with pytest.raises(AirflowSkipException):
        sensor(name, deferrable=deferrable, soft_fail=True).execute(context)


def test_the_deadline_ends_waiting_and_says_that_the_job_goes_on(job_at: Any, context: Context) -> None:
    operator = sensor(job_at("reads-1000"), timeout=timedelta(seconds=0.2))
    with pytest.raises(AirflowSensorTimeout, match="keeps running and costs money"):
        wait_deferred(operator, context)


def test_a_deadline_that_passed_while_no_triggerer_ran_does_not_hide_the_end(job_at: Any) -> None:
    past = (utc_now() - timedelta(days=1)).isoformat()
    (event,) = fire(GeminiBatchJobTrigger(job_at("immediate"), 0.05, past))
    assert (event["outcome"], event["state"]) == ("ended", "JOB_STATE_SUCCEEDED")


def test_a_job_that_is_not_there_is_explained(vertex: Emulator, context: Context) -> None:
    with pytest.raises(TaskDeferred):
        sensor(MISSING).execute(context)
    (event,) = fire(GeminiBatchJobTrigger(MISSING, 0.01))
    assert event["outcome"] == "error"
    assert event["job_name"] == MISSING
    with pytest.raises(AirflowFailException, match="The job was deleted, or it belongs to another"):
        sensor(MISSING).execute_complete(context, event)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"job_name": "42"}, "job_name='42'"),
        ({"on_incomplete": "hope"}, "on_incomplete='hope'"),
        ({"poll_interval": 0}, "poll_interval=0"),
    ],
)
def test_bad_values_fail_for_good(context: Context, changes: dict[str, Any], message: str) -> None:
    args = {"task_id": "wait", "job_name": MISSING, **changes}
    with pytest.raises(AirflowFailException, match=message):
        GeminiBatchJobSensor(**args).execute(context)


def test_two_triggers_of_one_job_both_see_its_end(job_at: Any) -> None:
    name = job_at("reads-3")

    async def collect(trigger: GeminiBatchJobTrigger) -> list[str]:
        return [event.payload["state"] async for event in trigger.run()]

    async def both() -> list[list[str]]:
        return await asyncio.gather(*(collect(GeminiBatchJobTrigger(name, 0.05)) for _ in range(2)))

    assert asyncio.run(both()) == [["JOB_STATE_SUCCEEDED"], ["JOB_STATE_SUCCEEDED"]]
