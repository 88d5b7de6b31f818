"""One fault at a time between a waiting sensor and the service, with the trigger as the triggerer runs it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, JobFault, Route
from airflow_gemini_batch.exceptions import GeminiBatchError, JobEndedError
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from tests.measure import overpaid
from tests.task_instance import TaskInstance
from tests.wire import Refuse, watched

from .tasks import Task, TaskFailedError, active, bill, cancel_requests, labels, settle
from .test_random_plans import sensor_task, submit_task

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_gemini_batch.emulator.server import Emulator

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException

# The sensor's first read is the first call; the trigger makes the calls from the second one on.
_LATER = tuple(range(2, 9))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (CallFaultKind.STATUS, {"status": 429}),
        (CallFaultKind.STATUS, {"status": 502}),
        (CallFaultKind.STATUS, {"status": 503}),
        (CallFaultKind.RESET, {}),
        (CallFaultKind.STALL, {"seconds": 0.1}),
        (CallFaultKind.TRICKLE, {"seconds": 0.1}),
    ],
)
def test_consecutive_transient_faults_do_not_end_waiting(
    vertex: Emulator, submit_args: dict[str, Any], kind: CallFaultKind, more: dict[str, Any]
) -> None:
    submit = submit_task(submit_args)
    name = submit.run(tries=1)
    vertex.faults = FaultPlan(calls=[CallFault(route=Route.GET, kind=kind, nth=_LATER, **more)])
    assert sensor_task(name, submit).run(tries=1)["state"] == str(JobState.SUCCEEDED)
    assert sum(bool(request.faults) for request in vertex.requests) >= 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_permanent_fault_is_explained_after_a_few_polls(
    vertex: Emulator, submit_args: dict[str, Any], status: int
) -> None:
    submit = submit_task(submit_args)
    name = submit.run(tries=1)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.GET, kind=CallFaultKind.STATUS, status=status, nth=_LATER)]
    )
    with pytest.raises(TaskFailedError) as caught:
        sensor_task(name, submit).run(tries=1)
    assert isinstance(caught.value.__cause__, GeminiBatchError)
    known = {403: "may still be running and cost money", 404: "If it was deleted, it is not running"}
    assert known[status] in str(caught.value.__cause__)


@pytest.mark.parametrize("ends", ["FAILED", "CANCELLED", "EXPIRED"])
def test_the_error_of_a_job_that_ended_early_says_whether_output_was_written(
    vertex: Emulator, submit_args: dict[str, Any], ends: str
) -> None:
    path = (JobState.QUEUED, JobState.PENDING, JobState.RUNNING, JobState.PAUSED, JobState.UPDATING)
    vertex.faults = FaultPlan(jobs=[JobFault(path=path, ends=JobState[ends], after_rows=2)])
    submit = submit_task(submit_args)
    name = submit.run(tries=1)
    seen = sensor_task(name, submit).run(tries=1)
    assert seen["completion_stats"]["successful"] == 2
    assert seen["output_location"]

    vertex.faults = FaultPlan(jobs=[JobFault(ends=JobState[ends], exports=False)])
    submit = submit_task(submit_args)
    with pytest.raises(TaskFailedError) as caught:
        sensor_task(submit.run(tries=1), submit).run(tries=1)
    assert isinstance(caught.value.__cause__, JobEndedError)
    assert "does not say where they are stored" in str(caught.value.__cause__)


class StoppedTask(TaskInstance):
    """Airflow knows a state of it that is final."""

    state = "success"

    def get_task_states(
        self, dag_id: str, map_index: int | None, task_ids: list[str], run_ids: list[str]
    ) -> dict[str, dict[str, str]]:
        return {run_ids[0]: {task_ids[0]: self.state}}

    def current_state(self) -> str:
        return self.state


def test_a_process_that_is_ended_after_its_task_has_succeeded_leaves_the_job_alone(
    vertex: Emulator, submit_args: dict[str, Any]
) -> None:
    """Airflow ends a process whose listeners take longer than ``task_success_overtime``."""
    slow = {**submit_args, "labels": labels("submit", pace="reads-9")}
    operator = GeminiBatchSubmitOperator(**slow)
    name = operator.execute({"ti": StoppedTask()})  # type: ignore[arg-type]
    operator.on_kill()
    assert cancel_requests(vertex) == []
    assert active(vertex) == [name]


class ReschedulingTask(TaskInstance):
    """What a sensor in reschedule mode asks of Airflow."""

    max_tries = 0

    def get_first_reschedule_date(self, context: Any) -> None:
        return None


@pytest.mark.parametrize("status", [403, 404])
def test_a_sensor_that_is_rescheduled_ends_after_a_few_lasting_errors(
    vertex: Emulator, submit_args: dict[str, Any], airflow_db: Path, status: int
) -> None:
    """Each look is a new object in a new process."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    name = submit_task(submit_args).run(tries=1)
    vertex.faults = FaultPlan(calls=[CallFault(route=Route.GET, kind=CallFaultKind.STATUS, status=status)])
    context: Any = {"ti": ReschedulingTask("wait"), "task_state_store": _Store()}

    def look_until_it_ends() -> None:
        for _ in range(9):
            sensor = GeminiBatchJobSensor(
                task_id="wait", job_name=name, mode="reschedule", deferrable=False, poll_interval=0.01
            )
            with contextlib.suppress(AirflowRescheduleException):
                sensor.execute(context)

    with pytest.raises(AirflowFailException) as caught:
        look_until_it_ends()
    assert isinstance(caught.value.__cause__, GeminiBatchError)


class _Store(dict[str, Any]):
    set = dict.__setitem__


@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b"7", b"<html>", b"\xef\xbb\xbf{}", b'{"batchPredictionJobs": [{}]}', b"{", b'"x"'],
)
@pytest.mark.parametrize("remembers", [True, False])
def test_an_odd_answer_to_a_look_up_is_no_reason_to_pay_again(
    vertex: Emulator, submit_args: dict[str, Any], content: bytes, remembers: bool
) -> None:
    args = {**submit_args, "preflight": False}
    store = _Store() if remembers else None
    task = Task(lambda: GeminiBatchSubmitOperator(**args), store=store)
    task.run()
    task.clear()
    odd = Refuse(
        lambda call: "/batchPredictionJobs" in call.url and call.method == "GET", 200, content=content
    )
    with watched(odd), contextlib.suppress(TaskFailedError):
        task.run()
    assert odd.refused
    task.clear()
    task.run()
    settle(vertex)
    assert overpaid(bill(vertex), {"submit": 3}) == []
