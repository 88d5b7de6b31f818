"""A look that fails is not the end of a wait, in any way of waiting; one that keeps failing for good is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, Route
from airflow_gemini_batch.exceptions import PollingError
from airflow_gemini_batch.hooks import gemini_batch as hooks
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_gemini_batch.emulator.server import Emulator
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger

Context = Any
MODES = ["deferrable", "poke", "reschedule"]

try:
    from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowNotFoundException, AirflowRescheduleException


@pytest.fixture
def job_name(vertex: Emulator, submit_args: dict[str, Any], context: Context) -> str:
    """A job that ends at the third look."""
    return str(
        GeminiBatchSubmitOperator(**{**submit_args, "labels": {"emulator-pace": "reads-3"}}).execute(context)
    )


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_gemini_batch.tasks.wait._CONNECT_WAITS", (0.01, 0.01, 0.01))


@pytest.fixture
def wait(context: Context, airflow_db: Path) -> Any:
    """Waits for a job with a sensor, as Airflow would in that mode."""

    def fire(trigger: GeminiBatchJobTrigger) -> Any:
        async def first() -> Any:
            return await anext(aiter(type(trigger)(**trigger.serialize()[1]).run()))

        return asyncio.run(first()).payload

    def run(mode: str, name: str, **more: Any) -> Any:
        how: dict[str, Any] = (
            {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}
        )
        while True:
            # A rescheduled or resumed sensor is a new object.
            sensor = GeminiBatchJobSensor(
                task_id="wait", job_name=name, **{"poll_interval": 0.05, "timeout": 60, **how, **more}
            )
            try:
                return sensor.execute(context)
            except AirflowRescheduleException:
                continue
            except TaskDeferred as deferred:
                event = fire(deferred.trigger)
            sensor = GeminiBatchJobSensor(task_id="wait", job_name=name, poll_interval=0.05)
            return sensor.execute_complete(context, event)

    return run


def faults(route: Route, kind: CallFaultKind = CallFaultKind.STATUS, **more: Any) -> FaultPlan:
    return FaultPlan(calls=[CallFault(route=route, kind=kind, **more)])


def looks(vertex: Emulator) -> int:
    return sum(
        request.method == "GET" and "batchPredictionJobs/" in request.path for request in vertex.requests
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "plan",
    [
        faults(Route.GET, status=503, nth=(1, 2, 3, 4, 5, 6)),
        faults(Route.GET, status=429, nth=(1, 3, 5)),
        faults(Route.GET, CallFaultKind.RESET, nth=(1, 2, 3, 4)),
        faults(Route.GET, status=502, nth=(1, 2, 3, 4)),
        faults(Route.GET, status=403, nth=(1, 2)),
        faults(Route.GET, status=404, nth=(1, 2)),
    ],
    ids=["503", "429", "reset", "502", "403 twice", "404 twice"],
)
def test_a_wait_rides_out_errors(
    vertex: Emulator, job_name: str, wait: Any, mode: str, plan: FaultPlan
) -> None:
    vertex.faults = plan
    assert wait(mode, job_name)["state"] == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", [403, 404])
def test_a_wait_ends_after_three_lasting_errors(
    vertex: Emulator, job_name: str, wait: Any, mode: str, status: int
) -> None:
    vertex.faults = faults(Route.GET, status=status)
    before = looks(vertex)
    known = {403: "may still be running", 404: "only a job that has ended can be deleted"}[status]
    with pytest.raises(AirflowFailException, match=f"Vertex AI returned {status}.*{known}") as caught:
        wait(mode, job_name)
    assert isinstance(caught.value.__cause__, PollingError)
    assert caught.value.__cause__.job_name == job_name
    # The first look of a deferrable sensor is on the worker, and the trigger counts on its own.
    assert looks(vertex) - before == (4 if mode == "deferrable" else 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "plan",
    [
        faults(Route.TOKEN, status=500, nth=(1,)),
        faults(Route.TOKEN, status=502, nth=(1, 2)),
        faults(Route.TOKEN, CallFaultKind.RESET, nth=(1, 2, 3)),
    ],
    ids=["500", "502", "reset"],
)
def test_a_wait_rides_out_a_token_endpoint_that_fails(
    vertex: Emulator, job_name: str, wait: Any, mode: str, plan: FaultPlan
) -> None:
    hooks._clients.clear()
    vertex.faults = plan
    assert wait(mode, job_name)["state"] == "JOB_STATE_SUCCEEDED"
    assert any(request.path.endswith("/token") for request in vertex.requests)


@pytest.mark.parametrize("mode", MODES)
def test_a_wait_rides_out_a_connection_that_airflow_does_not_find(
    job_name: str, wait: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

    read = GoogleBaseHook.get_connection.__func__  # type: ignore[attr-defined]
    left = [
        AirflowNotFoundException("The conn_id `google_cloud_default` isn't defined"),
        ConnectionError(),
        OSError(),
    ]

    def get_connection(cls: type[GoogleBaseHook], conn_id: str) -> Any:
        if left:
            raise left.pop()
        return read(cls, conn_id)

    monkeypatch.setattr(GoogleBaseHook, "get_connection", classmethod(get_connection))
    assert wait(mode, job_name)["state"] == "JOB_STATE_SUCCEEDED"
    assert not left


def test_a_deleted_job_is_not_created_again_by_a_retry(
    vertex: Emulator, submit_args: dict[str, Any], context: Context
) -> None:
    operator = GeminiBatchSubmitOperator(**submit_args, wait_for_completion=True, poll_interval=0.01)
    event = {"job_name": "projects/p/locations/l/batchPredictionJobs/1", "outcome": "error", "message": "404"}
    with pytest.raises(AirflowFailException, match="404"):
        operator.execute_complete(context, {**event, "retry_helps": False})
    with pytest.raises(PollingError):
        operator.execute_complete(context, {**event, "retry_helps": True})
    with pytest.raises(PollingError):
        operator.execute_complete(context, event)  # Of a trigger of an earlier release.


@pytest.mark.parametrize("reason", ["Trigger timeout", "Trigger/execution timeout"])
@pytest.mark.parametrize("kind", [GeminiBatchSubmitOperator, GeminiBatchJobSensor])
def test_a_lost_trigger_ends_the_wait_and_says_that_the_job_goes_on(
    submit_args: dict[str, Any], context: Context, kind: type, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    job_name = "projects/p/locations/l/batchPredictionJobs/1"
    operator = kind(
        **(submit_args if kind is GeminiBatchSubmitOperator else {"task_id": "w", "job_name": job_name})
    )
    with pytest.raises(Exception, match=rf"{reason}.*not cancelled.*finds it again"):
        operator.resume_execution("__fail__", {"error": reason}, context)


def test_a_deferral_ends_an_hour_after_its_deadline(
    vertex: Emulator, submit_args: dict[str, Any], context: Context
) -> None:
    args = {**submit_args, "labels": {"emulator-pace": "reads-3"}}
    with pytest.raises(TaskDeferred) as caught:
        GeminiBatchSubmitOperator(**args, wait_for_completion=True, wait_timeout=600).execute(context)
    assert caught.value.timeout is not None
    assert 4190 < caught.value.timeout.total_seconds() <= 4200


def test_a_job_that_has_ended_is_read_until_the_service_answers(
    vertex: Emulator, job_name: str, context: Context
) -> None:
    sensor = GeminiBatchJobSensor(task_id="wait", job_name=job_name, poll_interval=0.05)
    vertex.faults = faults(Route.GET, status=503, nth=tuple(range(1, 8)))
    event = {"job_name": job_name, "outcome": "ended", "state": "JOB_STATE_SUCCEEDED", "message": ""}
    assert sensor.execute_complete(context, event)["state"] == "JOB_STATE_SUCCEEDED"
