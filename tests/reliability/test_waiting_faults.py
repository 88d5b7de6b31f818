"""One fault at a time between a waiting sensor and the service, with the trigger as the triggerer runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, JobFault, Route
from airflow_gemini_batch.exceptions import GeminiBatchError, JobEndedError

from .tasks import TaskFailedError
from .test_random_plans import sensor_task, submit_task

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator

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
    assert "may still be running and cost money" in str(caught.value.__cause__)


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
    assert "No output was written" in str(caught.value.__cause__)
