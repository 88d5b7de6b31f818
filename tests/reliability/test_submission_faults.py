"""One fault at a time between the submit operator and the service: one job, or an error that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, JobFault, Route
from airflow_gemini_batch.exceptions import (
    ApiError,
    PermissionDeniedError,
    ServiceUnreachableError,
    SubmissionOutcomeUnknownError,
)
from airflow_gemini_batch.hooks import gemini_batch as hook_module
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator

from .tasks import Task, TaskFailedError, paid_twice

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator


@pytest.fixture
def task(submit_args: dict[str, Any]) -> Task:
    slow = {**submit_args, "labels": {"emulator-pace": "reads-1000"}}
    return Task(lambda: GeminiBatchSubmitOperator(**slow))


def fault(route: Route, kind: CallFaultKind, **more: Any) -> FaultPlan:
    return FaultPlan(calls=[CallFault(route=route, kind=kind, **more)])


def creates(vertex: Emulator) -> int:
    return sum(r.method == "POST" and r.path.endswith("/batchPredictionJobs") for r in vertex.requests)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_a_create_that_answers_with_an_error_and_took_effect_is_adopted(
    vertex: Emulator, task: Task, status: int
) -> None:
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=status, after=True, nth=(1,))
    name = task.run(tries=1)
    assert [job["name"] for job in vertex.jobs] == [name]
    assert creates(vertex) == 1


@pytest.mark.parametrize("kind", [CallFaultKind.RESET, CallFaultKind.STALL])
def test_a_create_whose_answer_is_lost_is_adopted(
    vertex: Emulator, task: Task, kind: CallFaultKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    vertex.faults = fault(Route.CREATE, kind, after=True, nth=(1,), seconds=2)
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1


@pytest.mark.parametrize("force_new", [False, True])
def test_a_create_whose_answer_is_lost_is_adopted_though_the_job_has_ended(
    vertex: Emulator, submit_args: dict[str, Any], force_new: bool
) -> None:
    task = Task(lambda: GeminiBatchSubmitOperator(**submit_args, force_new=force_new))
    before = [task.run(tries=1)] if force_new else []
    vertex.faults = fault(Route.CREATE, CallFaultKind.RESET, after=True, nth=(1,))
    name = task.run(tries=1)
    assert [job["name"] for job in vertex.jobs] == [*before, name]
    assert len(set(before) | {name}) == 1 + force_new


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request times out after half a second."""
    monkeypatch.setattr(hook_module, "_TIMEOUT_MS", 500)
    hook_module._clients.clear()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (CallFaultKind.RESET, {}),
        (CallFaultKind.STATUS, {"status": 500}),
        (CallFaultKind.STATUS, {"status": 502}),
        (CallFaultKind.STATUS, {"status": 503}),
    ],
)
def test_a_create_that_may_have_taken_effect_is_not_repeated_before_the_next_try(
    vertex: Emulator, task: Task, kind: CallFaultKind, more: dict[str, Any]
) -> None:
    vertex.faults = fault(Route.CREATE, kind, nth=(1,), **more)
    with pytest.raises(TaskFailedError) as caught:
        task.run(tries=1)
    unknown = caught.value.__cause__
    assert isinstance(unknown, SubmissionOutcomeUnknownError)
    assert "Retrying this task is safe" in str(unknown)
    assert (creates(vertex), vertex.jobs) == (1, ())

    task.ti.try_number += 1
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert (creates(vertex), len(vertex.jobs)) == (2, 1)


def test_a_create_that_takes_effect_after_all_is_found_by_the_look_up(
    vertex: Emulator, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request stalls on its way, its answer is given up, and then the job appears."""
    from airflow_gemini_batch.jobs import submission

    impatient(monkeypatch)
    monkeypatch.setattr(submission, "LOOKUP_WAITS", (0.2,) * 7)
    vertex.faults = fault(Route.CREATE, CallFaultKind.STALL, nth=(1,), seconds=1.0)
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert (creates(vertex), len(vertex.jobs)) == (1, 1)


@pytest.mark.parametrize("status", [429, 409])
def test_a_create_that_was_refused_created_nothing_and_says_so(
    vertex: Emulator, task: Task, status: int
) -> None:
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=status, nth=(1, 2))
    with pytest.raises(TaskFailedError) as caught:
        task.run(tries=1)
    assert isinstance(caught.value.__cause__, ApiError)
    assert vertex.jobs == ()


def test_a_create_over_quota_succeeds_on_a_later_try(vertex: Emulator, task: Task) -> None:
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=429, nth=(1, 2))
    assert task.run() == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1
    assert [str(error) for error in task.failures] == [str(task.failures[0])] * 2


@pytest.mark.parametrize("route", [Route.CREATE, Route.LIST])
def test_a_token_that_is_no_longer_good_is_replaced(vertex: Emulator, task: Task, route: Route) -> None:
    vertex.faults = fault(route, CallFaultKind.STATUS, status=401, nth=(1,))
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1
    assert any(request.faults for request in vertex.requests)


@pytest.mark.parametrize("lists", [1, 5])
def test_a_list_that_lags_behind_the_create(vertex: Emulator, task: Task, lists: int) -> None:
    vertex.faults = FaultPlan(
        calls=[
            CallFault(route=Route.CREATE, kind=CallFaultKind.RESET, after=True, nth=(1,)),
            CallFault(route=Route.LIST, kind=CallFaultKind.LAG, lists=lists),
        ]
    )
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1


def test_a_list_that_lags_longer_than_a_try_is_waited_for_by_the_next(vertex: Emulator, task: Task) -> None:
    """The answer is lost, no look-up of the first try shows the job, nor does the first of the second."""
    vertex.faults = FaultPlan(
        calls=[
            CallFault(route=Route.CREATE, kind=CallFaultKind.RESET, after=True, nth=(1,)),
            CallFault(route=Route.LIST, kind=CallFaultKind.LAG, lists=8),
        ]
    )
    assert task.run(tries=2) == vertex.jobs[0]["name"]
    assert [type(error) for error in task.failures] == [SubmissionOutcomeUnknownError]
    assert len(vertex.jobs) == 1


def test_a_worker_that_dies_before_it_has_noted_its_job_and_a_list_that_lags(
    vertex: Emulator, task: Task
) -> None:
    task.run(tries=1)
    vertex.faults = fault(Route.LIST, CallFaultKind.LAG, lists=3)
    task.ti.try_number = 2
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1


def test_a_list_that_is_cut_short(vertex: Emulator, task: Task) -> None:
    name = task.run(tries=1)
    vertex.faults = fault(Route.LIST, CallFaultKind.TRUNCATE, keep=0, nth=(1,))
    task.ti.try_number = 2
    assert task.run(tries=1) == name
    assert len(vertex.jobs) == 1


def test_a_job_that_failed_hides_no_newer_one(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    """The first job failed; the list shows it, and does not show yet the one that has replaced it."""
    task = Task(lambda: GeminiBatchSubmitOperator(**submit_args))
    vertex.faults = FaultPlan(jobs=[JobFault(ends=JobState.FAILED, nth=(1,))])
    task.run(tries=1)
    task.ti.try_number = 2
    second = task.run(tries=1)
    assert len(vertex.jobs) == 2
    vertex.faults = fault(Route.LIST, CallFaultKind.LAG, lists=3)
    task.ti.try_number = 3
    assert task.run(tries=1) == second
    assert paid_twice(vertex) == []


@pytest.mark.parametrize(("ends", "jobs"), [(JobState.SUCCEEDED, 1), (JobState.CANCELLED, 2)])
def test_a_cancel_that_came_too_late_is_not_paid_for_again(
    vertex: Emulator, submit_args: dict[str, Any], ends: JobState, jobs: int
) -> None:
    args = {**submit_args, "labels": {"emulator-pace": "reads-8"}}
    task = Task(lambda: GeminiBatchSubmitOperator(**args))
    vertex.faults = FaultPlan(jobs=[JobFault(path=(JobState.CANCELLING,), ends=ends, nth=(1,))])
    task.run(tries=1)
    task.ti.try_number = 2
    task.run(tries=1)
    assert len(vertex.jobs) == jobs
    assert paid_twice(vertex) == []


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (CallFaultKind.STATUS, {"status": 429}),
        (CallFaultKind.STATUS, {"status": 502}),
        (CallFaultKind.STATUS, {"status": 503}),
        (CallFaultKind.RESET, {}),
        (CallFaultKind.TRICKLE, {"seconds": 0.1}),
    ],
)
@pytest.mark.parametrize("route", [Route.LIST, Route.GET])
def test_a_read_that_fails_once_is_read_again(
    vertex: Emulator, task: Task, route: Route, kind: CallFaultKind, more: dict[str, Any]
) -> None:
    name = task.run(tries=1)
    vertex.faults = fault(route, kind, nth=(1,), **more)
    assert task.run(tries=1) == name
    assert any(request.faults for request in vertex.requests)


def test_a_look_up_that_fails_for_long_creates_nothing(vertex: Emulator, task: Task) -> None:
    vertex.faults = fault(Route.LIST, CallFaultKind.STATUS, status=503)
    with pytest.raises(TaskFailedError) as caught:
        task.run(tries=2)
    assert isinstance(caught.value.__cause__, ApiError)
    assert creates(vertex) == 0


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused_fail_for_good_and_are_read_again(
    vertex: Emulator, task: Task, status: int
) -> None:
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=status, nth=(1, 2))
    with pytest.raises(TaskFailedError) as caught:
        task.run()
    assert isinstance(caught.value.__cause__, PermissionDeniedError)
    assert vertex.jobs == ()
    vertex.faults = FaultPlan()
    assert task.run() == vertex.jobs[0]["name"]
    assert sum(request.path == "/token" for request in vertex.requests) >= 1


def list_jobs() -> list[Any]:
    hook_module._clients.clear()
    return hook_module.GeminiBatchHook().list_jobs("local-project", "us-central1", "")


def test_a_token_that_is_refused(vertex: Emulator) -> None:
    vertex.faults = fault(Route.TOKEN, CallFaultKind.WRONG_TOKEN, nth=(1, 2))
    with pytest.raises(PermissionDeniedError):
        list_jobs()
    assert list_jobs() == []


def test_a_token_endpoint_that_is_down(vertex: Emulator) -> None:
    vertex.faults = fault(Route.TOKEN, CallFaultKind.RESET)
    with pytest.raises(ServiceUnreachableError) as caught:
        list_jobs()
    assert caught.value.never_sent
    assert {request.path for request in vertex.requests} == {"/token"}


def test_a_token_endpoint_that_refuses(vertex: Emulator) -> None:
    vertex.faults = fault(Route.TOKEN, CallFaultKind.STATUS, status=400)
    with pytest.raises(PermissionDeniedError, match="Check the key"):
        list_jobs()


@pytest.mark.parametrize(("status", "kind"), [(400, PermissionDeniedError), (503, ServiceUnreachableError)])
def test_a_look_at_the_input_without_a_token_is_explained(
    vertex: Emulator, task: Task, status: int, kind: type[Exception]
) -> None:
    vertex.faults = fault(Route.TOKEN, CallFaultKind.STATUS, status=status)
    with pytest.raises(TaskFailedError) as caught:
        task.run(tries=1)
    assert isinstance(caught.value.__cause__, kind)


def test_a_cancel_that_is_lost_is_asked_again_by_the_next_try(
    vertex: Emulator, task: Task, submit_args: dict[str, Any]
) -> None:
    """A changed request replaces the job under way; it is never left to run beside the new one unknown."""
    old = task.run(tries=1)
    changed = {**submit_args, "model": "gemini-2.5-pro", "labels": {"emulator-pace": "reads-1000"}}
    vertex.faults = fault(Route.CANCEL, CallFaultKind.RESET, nth=(1,))
    new = Task(lambda: GeminiBatchSubmitOperator(**changed), task.ti).run()
    states = {job["name"]: job["state"] for job in vertex.jobs}
    assert states[old] == "JOB_STATE_CANCELLING"
    assert states[new] == "JOB_STATE_PENDING"
    assert len(states) == 2
