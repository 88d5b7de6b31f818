"""Random fault plans between operators and service: no job is charged twice, and every error is explained."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import BatchJob
from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS, FaultPlan, Route
from airflow_gemini_batch.hooks import gemini_batch as hook_module
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from tests.task_instance import TaskInstance

from .plans import fault_plans, for_all, seeds
from .tasks import Task, TaskFailedError, paid_twice

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator


def submit_task(submit_args: dict[str, Any]) -> Task:
    args = {**submit_args, "labels": {"emulator-pace": "reads-1"}}
    return Task(lambda: GeminiBatchSubmitOperator(**args), TaskInstance(run_id=uuid.uuid4().hex))


def sensor_task(name: str, submitted: Task) -> Task:
    def make() -> GeminiBatchJobSensor:
        return GeminiBatchJobSensor(
            task_id="wait", job_name=name, on_incomplete="continue", poll_interval=0.005, timeout=30
        )

    return Task(make, TaskInstance("wait", submitted.ti.run_id))


def begin(vertex: Emulator, plan: FaultPlan) -> None:
    vertex.clear()
    vertex.faults = plan
    if any(fault.route is Route.TOKEN for fault in plan.calls):
        hook_module._clients.clear()


@pytest.mark.parametrize(("seed", "count"), seeds("RELIABILITY_PLANS", default=60, each=30))
def test_no_plan_pays_twice_or_ends_in_an_unexplained_error(
    vertex: Emulator, submit_args: dict[str, Any], seed: int, count: int
) -> None:
    """Submit, wait, clear, and again; then without faults, until the task succeeds."""

    def check(plan: FaultPlan) -> None:
        begin(vertex, plan)
        submit = submit_task(submit_args)
        for _ in range(2):
            try:
                name = submit.run()
            except TaskFailedError:
                pass
            else:
                wait(vertex, name, submit)
            assert paid_twice(vertex) == []
            submit.ti.try_number += 1
        vertex.faults = NO_FAULTS
        seen: dict[str, Any] = {}
        # The first job may have been created with faults and be bound to fail; the next one is not.
        while not seen:
            name = submit.run(tries=1)
            assert paid_twice(vertex) == []
            seen = wait(vertex, name, submit)
            submit.ti.try_number += 1
            assert len(vertex.jobs) < submit.ti.try_number
        assert seen["job_name"] == name

    for_all(fault_plans(), check, seed, count)


def wait(vertex: Emulator, name: str, submitted: Task) -> dict[str, Any]:
    """Wait for a job; the sensor reports the same state as the emulator."""
    known = {str(job.name): job for job in map(BatchJob.from_resource, vertex.jobs)}
    assert name in known
    try:
        seen: dict[str, Any] = sensor_task(name, submitted).run()
    except TaskFailedError:
        return {}
    assert seen["state"] == known_state(vertex, name)
    return seen


def known_state(vertex: Emulator, name: str) -> str:
    return next(job["state"] for job in vertex.jobs if job["name"] == name)
