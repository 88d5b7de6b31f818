"""What must not go on costing is cancelled when a user says so, and on no restart."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.utils.state import TaskInstanceState

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, Route
from airflow_gemini_batch.exceptions import JobEndedError, WaitTimeoutError
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from airflow_gemini_batch.tasks import stopping
from airflow_gemini_batch.tasks.options import WaitOptions
from airflow_gemini_batch.tasks.wait import cancel_late
from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger
from airflow_gemini_batch.triggers.task_state import RUNS_AGAIN
from tests.task_instance import TaskInstance, execute
from tests.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_gemini_batch.emulator.server import Emulator

Context = Any


class TaskOfAirflow2(TaskInstance):
    state: str | None = "running"

    def current_state(self) -> str | None:
        return self.state


class TaskOfAirflow3(TaskInstance):
    state: str | None = "running"

    def get_task_states(
        self, dag_id: str, map_index: int | None, task_ids: list[str], run_ids: list[str]
    ) -> dict[str, dict[str, str | None]]:
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
        with pytest.raises((JobEndedError, WaitTimeoutError)):
            execute(operator, {"ti": ti})

    thread = threading.Thread(target=run)
    thread.start()
    while "gemini_batch_job" not in ti.xcom:
        assert thread.is_alive()
        time.sleep(0.01)
    return thread


def test_every_state_of_a_task_is_decided() -> None:
    assert {None, *(state.value for state in TaskInstanceState)} <= set(RUNS_AGAIN)


@pytest.mark.parametrize("kind", [TaskOfAirflow2, TaskOfAirflow3])
@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed"])
def test_a_running_task_that_is_over_cancels_its_job(
    vertex: Emulator, slow: dict[str, Any], kind: type[TaskInstance], state: str
) -> None:
    kill_in_state(slow, kind(), state)
    assert is_cancelled(vertex)


@pytest.mark.parametrize("kind", [TaskOfAirflow2, TaskOfAirflow3])
@pytest.mark.parametrize("state", sorted(filter(RUNS_AGAIN.get, RUNS_AGAIN), key=str))
def test_a_running_task_that_runs_again_keeps_its_job(
    vertex: Emulator, slow: dict[str, Any], kind: type[TaskInstance], state: str | None
) -> None:
    kill_in_state(slow, kind(), state)
    assert not is_cancelled(vertex)


def kill_in_state(slow: dict[str, Any], ti: TaskInstance, state: str | None) -> float:
    """Kill a task that waits, when it is in that state; return how many seconds ``on_kill`` took."""
    operator = GeminiBatchSubmitOperator(**slow, wait_for_completion=True, deferrable=False, wait_timeout=0.5)
    thread = run_until_waiting(operator, ti)
    ti.state = state  # type: ignore[attr-defined]
    started = time.monotonic()
    operator.on_kill()
    took = time.monotonic() - started
    thread.join()
    return took


@pytest.mark.parametrize("how", ["returns", "defers", "fails"])
def test_a_task_that_has_ended_cancels_nothing(
    vertex: Emulator, slow: dict[str, Any], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Airflow sends SIGTERM to a process that lingers after its task has succeeded.
    ti = TaskOfAirflow3()
    operator = GeminiBatchSubmitOperator(
        **slow, wait_for_completion=how != "returns", deferrable=how == "defers", wait_timeout=0.1
    )
    with pytest.raises((TaskDeferred, WaitTimeoutError)) if how != "returns" else nullcontext():
        operator.execute({"ti": ti})
    ti.state = "success" if how == "returns" else "failed"
    operator.on_kill()
    assert len(vertex.jobs) == 1
    assert not is_cancelled(vertex)


@pytest.mark.parametrize(
    "fault",
    [
        {"route": Route.LIST, "kind": CallFaultKind.STATUS, "status": 503},
        {"route": Route.LIST, "kind": CallFaultKind.STATUS, "status": 403},
        {"route": Route.LIST, "kind": CallFaultKind.STALL, "seconds": 30},
        {"route": Route.CANCEL, "kind": CallFaultKind.STATUS, "status": 429, "nth": (1,)},
        {"route": Route.CANCEL, "kind": CallFaultKind.STATUS, "status": 503, "nth": (1, 2)},
        {"route": Route.CANCEL, "kind": CallFaultKind.RESET, "nth": (1,)},
    ],
    ids=["list 503", "list 403", "list stalls", "cancel 429", "cancel 503", "cancel reset"],
)
def test_a_hiccup_of_the_service_does_not_keep_a_job(
    vertex: Emulator, slow: dict[str, Any], fault: dict[str, Any]
) -> None:
    # A run of its own: a call that stalls may look for the jobs of its run long after this test.
    ti = TaskOfAirflow3(run_id=f"{fault['route']} {fault['kind']}")
    operator = GeminiBatchSubmitOperator(**slow, wait_for_completion=True, deferrable=False, wait_timeout=0.5)
    thread = run_until_waiting(operator, ti)
    ti.state = "failed"
    vertex.faults = FaultPlan(calls=[CallFault(**fault)])
    started = time.monotonic()
    operator.on_kill()
    took = time.monotonic() - started
    thread.join()
    vertex.faults = FaultPlan()
    assert is_cancelled(vertex)
    assert took < 4  # Airflow kills the process after five seconds.


class TaskWhoseAirflowStalls(TaskInstance):
    released = threading.Event()

    def current_state(self) -> str:
        self.released.wait(60)
        return "failed"


@pytest.mark.parametrize("route", [Route.CANCEL, None])
def test_on_kill_returns_before_airflow_kills_the_process(
    vertex: Emulator, slow: dict[str, Any], route: Route | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_SECONDS", 0.3)
    kind = TaskOfAirflow3 if route else TaskWhoseAirflowStalls
    ti = kind(run_id=f"stalled {route}")
    operator = GeminiBatchSubmitOperator(**slow, wait_for_completion=True, deferrable=False, wait_timeout=0.5)
    thread = run_until_waiting(operator, ti)
    if route:
        ti.state = "failed"  # type: ignore[attr-defined]
        vertex.faults = FaultPlan(calls=[CallFault(route=route, kind=CallFaultKind.STALL, seconds=5)])
    started = time.monotonic()
    operator.on_kill()
    assert time.monotonic() - started < 2
    TaskWhoseAirflowStalls.released.set()
    thread.join()
    vertex.faults = FaultPlan()


def test_a_job_that_is_created_while_its_task_is_killed_is_cancelled(
    vertex: Emulator, slow: dict[str, Any]
) -> None:
    ti = TaskOfAirflow3(run_id="killed while creating")
    operator = GeminiBatchSubmitOperator(**slow, wait_for_completion=True, deferrable=False, wait_timeout=0.5)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.CREATE, kind=CallFaultKind.STALL, seconds=2, nth=(1,))]
    )
    thread = threading.Thread(target=lambda: run_until_waiting(operator, ti).join())
    thread.start()
    # Before its request is sent, a task that is killed creates nothing.
    while not vertex.usage.submission:
        assert thread.is_alive()
        time.sleep(0.01)
    while not (vertex.jobs and is_cancelled(vertex)):
        assert thread.is_alive()
        ti.state = "failed"
        operator.on_kill()
        time.sleep(0.05)
    thread.join()


@contextmanager
def alarm_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Raise the error of ``execution_timeout`` in the main thread as soon as the condition holds."""

    def on_alarm(signum: int, frame: object) -> None:
        if condition():
            # Again after a while: Python ignores what is raised while it deletes an object.
            signal.setitimer(signal.ITIMER_REAL, 5, 5)
            raise AirflowTaskTimeout

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("cancel_on_timeout", [True, False])
@pytest.mark.parametrize("tries", [1, 2])
def test_execution_timeout_keeps_a_job_that_a_retry_attaches_to(
    vertex: Emulator, slow: dict[str, Any], cancel_on_timeout: bool, tries: int
) -> None:
    ti = TaskOfAirflow3(max_tries=tries - 1)
    operator = GeminiBatchSubmitOperator(
        **slow, wait_for_completion=True, deferrable=False, cancel_on_timeout=cancel_on_timeout
    )

    # As Airflow does it.
    with pytest.raises(AirflowTaskTimeout), alarm_when(lambda: "gemini_batch_job" in ti.xcom):
        operator.execute({"ti": ti})
    operator.on_kill()
    assert is_cancelled(vertex) is (cancel_on_timeout and tries == 1)


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
    assert on_kill_of_trigger(slow, "failed", context, cancel_on_kill=cancel)
    assert is_cancelled(vertex) is cancel


@pytest.mark.parametrize("state", [None, "scheduled", "queued", "running", "deferred", "up_for_retry"])
def test_a_waiting_task_that_a_user_clears_attaches_again(
    vertex: Emulator, slow: dict[str, Any], context: Context, state: str | None
) -> None:
    name = on_kill_of_trigger(slow, state, context, cancel_on_kill=True)
    assert not is_cancelled(vertex)
    assert GeminiBatchSubmitOperator(**slow).execute(context) == name


def on_kill_of_trigger(
    slow: dict[str, Any], state: str | None, context: Context, *, cancel_on_kill: bool
) -> str:
    """Kill the trigger of a task in that state; return the name of its job."""
    ti = TaskOfAirflow3()
    ti.state = state
    name = str(GeminiBatchSubmitOperator(**slow).execute(context))
    trigger = GeminiBatchJobTrigger(name, 0.05, cancel_on_kill=cancel_on_kill)
    trigger.task_instance = ti  # type: ignore[assignment]
    asyncio.run(trigger.on_kill())
    return name


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
        await until(lambda: len(vertex.requests) >= seen + 2)
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


def test_a_late_job_that_has_ended_since_is_no_error(
    vertex: Emulator, slow: dict[str, Any], context: Context
) -> None:
    name = GeminiBatchSubmitOperator(**{**slow, "labels": {"emulator-pace": "immediate"}}).execute(context)
    hook = GeminiBatchHook()
    assert hook.get_job(JobName.parse(name)).state.is_terminal
    assert hook.cancel_job(JobName.parse(name)) is False
    options = WaitOptions(cancel_on_timeout=True)
    assert "has ended" in cancel_late(lambda: hook, options, JobName.parse(name))


def test_a_late_job_that_cannot_be_cancelled_is_said_to_go_on(
    vertex: Emulator, slow: dict[str, Any], context: Context
) -> None:
    name = JobName.parse(GeminiBatchSubmitOperator(**slow).execute(context))
    vertex.faults = FaultPlan(calls=[CallFault(route=Route.CANCEL, kind=CallFaultKind.STATUS, status=403)])
    told = cancel_late(GeminiBatchHook, WaitOptions(cancel_on_timeout=True), name)
    assert "Cancelling it failed, so it keeps running and costs money" in told


@pytest.mark.parametrize("cancel", [True, False])
def test_a_sensor_that_is_killed_while_it_pokes(
    vertex: Emulator, slow: dict[str, Any], context: Context, cancel: bool
) -> None:
    name = GeminiBatchSubmitOperator(**slow).execute(context)
    ti = TaskOfAirflow3()
    sensor = GeminiBatchJobSensor(
        task_id="wait",
        job_name=name,
        deferrable=False,
        poll_interval=0.05,
        timeout=0.5,
        cancel_on_kill=cancel,
    )

    seen = len(vertex.requests)

    def kill() -> None:
        while len(vertex.requests) == seen:
            time.sleep(0.01)
        ti.state = "failed"
        sensor.on_kill()

    thread = threading.Thread(target=kill)
    thread.start()
    # Airflow 2 runs execute on the main thread only.
    with pytest.raises((AirflowSensorTimeout, AirflowFailException)):
        sensor.execute({"ti": ti})
    thread.join()
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


def test_a_trigger_that_is_cancelled_again_still_cancels_its_job(
    vertex: Emulator, slow: dict[str, Any], context: Context
) -> None:
    class SlowTask(TaskInstance):
        released = threading.Event()

        def current_state(self) -> str:
            self.released.wait(10)
            return "failed"

    trigger = GeminiBatchJobTrigger(
        str(GeminiBatchSubmitOperator(**slow).execute(context)), 0.05, cancel_on_kill=True
    )
    trigger.task_instance = SlowTask()  # type: ignore[assignment]

    async def kill() -> None:
        task = asyncio.create_task(trigger.on_kill())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        SlowTask.released.set()
        await asyncio.wait_for(trigger._stopping, 10)

    asyncio.run(kill())
    assert is_cancelled(vertex)
