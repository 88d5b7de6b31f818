"""What must not go on costing is cancelled when a user says so, and on no restart."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_gemini_batch.exceptions import JobEndedError, WaitTimeoutError
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger
from tests.task_instance import TaskInstance

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator

Context = Any


class TaskOfAirflow2(TaskInstance):
    state = "running"

    def current_state(self) -> str:
        return self.state


class TaskOfAirflow3(TaskInstance):
    state = "running"

    def get_task_states(
        self, dag_id: str, map_index: int | None, task_ids: list[str], run_ids: list[str]
    ) -> dict[str, dict[str, str]]:
        return {run_ids[0]: {task_ids[0]: self.state}}


class TaskWhoseAirflowIsSilent(TaskInstance):
    def current_state(self) -> str:
        raise ConnectionError


@pytest.fixture
def slow(submit_args: dict[str, Any]) -> dict[str, Any]:
    """A job that ends only when it is cancelled."""
    return {**submit_args, "labels": {"emulator-pace": "reads-100000"}, "poll_interval": 0.05}


def states(vertex: Emulator) -> list[str]:
    return [job["state"].removeprefix("JOB_STATE_") for job in vertex.jobs]


def is_cancelled(vertex: Emulator) -> bool:
    return all(state in ("CANCELLING", "CANCELLED") for state in states(vertex))


def run_until_waiting(operator: GeminiBatchSubmitOperator, ti: TaskInstance) -> threading.Thread:
    """Run the operator on a thread, and return once it waits for its job."""

    def run() -> None:
        # Airflow 2 wraps execute in a guard that works on the main thread only.
        execute = inspect.unwrap(type(operator).execute)
        with pytest.raises((JobEndedError, WaitTimeoutError)):
            execute(operator, {"ti": ti})

    thread = threading.Thread(target=run)
    thread.start()
    while "gemini_batch_job" not in ti.xcom:
        assert thread.is_alive()
        time.sleep(0.01)
    return thread


@pytest.mark.parametrize("kind", [TaskOfAirflow2, TaskOfAirflow3])
@pytest.mark.parametrize("state", ["failed", "success", "restarting"])
def test_a_running_task_that_a_user_ends_cancels_its_job(
    vertex: Emulator, slow: dict[str, Any], kind: type[TaskInstance], state: str
) -> None:
    ti = kind()
    operator = GeminiBatchSubmitOperator(**slow, wait_for_completion=True, deferrable=False, wait_timeout=0.5)
    thread = run_until_waiting(operator, ti)
    ti.state = state  # type: ignore[attr-defined]
    operator.on_kill()
    thread.join()
    assert is_cancelled(vertex)


@pytest.mark.parametrize("kind", [TaskOfAirflow2, TaskOfAirflow3, TaskWhoseAirflowIsSilent])
def test_a_worker_that_shuts_down_cancels_nothing(
    vertex: Emulator, slow: dict[str, Any], kind: type[TaskInstance]
) -> None:
    operator = GeminiBatchSubmitOperator(**slow, wait_for_completion=True, deferrable=False, wait_timeout=0.5)
    thread = run_until_waiting(operator, kind())
    operator.on_kill()
    thread.join()
    assert not is_cancelled(vertex)


def test_cancelling_can_be_switched_off(vertex: Emulator, slow: dict[str, Any]) -> None:
    ti = TaskOfAirflow3()
    operator = GeminiBatchSubmitOperator(
        **slow, wait_for_completion=True, deferrable=False, wait_timeout=0.5, cancel_on_kill=False
    )
    thread = run_until_waiting(operator, ti)
    ti.state = "failed"
    operator.on_kill()
    thread.join()
    assert not is_cancelled(vertex)


def test_a_task_that_is_killed_before_it_began_has_nothing_to_cancel(slow: dict[str, Any]) -> None:
    GeminiBatchSubmitOperator(**slow).on_kill()


@pytest.mark.parametrize("cancel", [True, False])
def test_a_waiting_task_that_a_user_ends(
    vertex: Emulator, slow: dict[str, Any], context: Context, cancel: bool
) -> None:
    name = GeminiBatchSubmitOperator(**slow).execute(context)
    asyncio.run(GeminiBatchJobTrigger(name, 0.05, cancel_on_kill=cancel).on_kill())
    assert is_cancelled(vertex) is cancel


def test_a_triggerer_that_shuts_down_cancels_nothing(
    vertex: Emulator, slow: dict[str, Any], context: Context
) -> None:
    trigger = GeminiBatchJobTrigger(
        GeminiBatchSubmitOperator(**slow).execute(context), 0.05, cancel_on_kill=True
    )

    async def watch() -> None:
        async for _ in trigger.run():
            pass

    async def shut_down() -> None:
        seen = len(vertex.requests)
        task = asyncio.create_task(watch())
        while len(vertex.requests) < seen + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await trigger.cleanup()

    asyncio.run(shut_down())
    assert not is_cancelled(vertex)


@pytest.mark.parametrize("cancel", [True, False])
def test_a_late_job(vertex: Emulator, slow: dict[str, Any], context: Context, cancel: bool) -> None:
    fate = "is being cancelled" if cancel else "keeps running and costs money"
    operator = GeminiBatchSubmitOperator(
        **slow, wait_for_completion=True, deferrable=False, wait_timeout=0.2, cancel_on_timeout=cancel
    )
    with pytest.raises(WaitTimeoutError, match=fate):
        operator.execute(context)
    assert is_cancelled(vertex) is cancel


@pytest.mark.parametrize("cancel", [True, False])
def test_a_late_job_of_a_sensor_that_pokes(
    vertex: Emulator, slow: dict[str, Any], context: Context, cancel: bool
) -> None:
    name = GeminiBatchSubmitOperator(**slow).execute(context)
    sensor = GeminiBatchJobSensor(
        task_id="wait",
        job_name=name,
        deferrable=False,
        poll_interval=0.05,
        timeout=timedelta(seconds=0.2),
        cancel_on_timeout=cancel,
    )
    with pytest.raises(AirflowSensorTimeout):
        sensor.execute(context)
    assert is_cancelled(vertex) is cancel
