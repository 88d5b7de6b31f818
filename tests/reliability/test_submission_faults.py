"""One fault at a time between the submit operator and the service: one job, or an error that explains it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, JobFault, Route
from airflow_gemini_batch.exceptions import (
    ApiError,
    PermissionDeniedError,
    ServiceUnreachableError,
    SubmissionOutcomeUnknownError,
    SubmitTimeoutError,
)
from airflow_gemini_batch.hooks import gemini_batch as hook_module
from airflow_gemini_batch.jobs import submission
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from tests.measure import overpaid

from .tasks import Task, TaskFailedError, bill, labels, settle

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator


@pytest.fixture
def task(submit_args: dict[str, Any]) -> Task:
    slow = {**submit_args, "labels": labels("submit", pace="reads-1000")}
    return Task(lambda: GeminiBatchSubmitOperator(**slow))


def wrong_bill(vertex: Emulator, rows: int = 3) -> list[str]:
    """What is charged beyond the rows that the task run asked for."""
    settle(vertex)
    return overpaid(bill(vertex), {"submit": rows})


def fault(route: Route, kind: CallFaultKind, **more: Any) -> FaultPlan:
    return FaultPlan(calls=[CallFault(route=route, kind=kind, **more)])


def creates(vertex: Emulator) -> int:
    return sum(r.method == "POST" and r.path.endswith("/batchPredictionJobs") for r in vertex.requests)


@pytest.mark.parametrize("status", [408, 409, 429, 499, 500, 502, 503, 504])
def test_a_job_created_despite_an_error_response_is_found(vertex: Emulator, task: Task, status: int) -> None:
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=status, after=True, nth=(1,))
    name = task.run(tries=1)
    assert [job["name"] for job in vertex.jobs] == [name]
    assert creates(vertex) == 1


@pytest.mark.parametrize("kind", [CallFaultKind.RESET, CallFaultKind.STALL])
def test_a_job_whose_create_response_is_lost_is_found(
    vertex: Emulator, task: Task, kind: CallFaultKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_timeout(monkeypatch)
    vertex.faults = fault(Route.CREATE, kind, after=True, nth=(1,), seconds=2)
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1


@pytest.mark.parametrize("force_new", [False, True])
def test_a_job_whose_create_response_is_lost_is_found_even_if_it_has_ended(
    vertex: Emulator, submit_args: dict[str, Any], force_new: bool
) -> None:
    task = Task(lambda: GeminiBatchSubmitOperator(**submit_args))
    before = [task.run(tries=1)] if force_new else []
    if force_new:
        forced: Any = {**submit_args, "force_new": "again"}
        task = Task(lambda: GeminiBatchSubmitOperator(**forced), task.ti)
    vertex.faults = fault(Route.CREATE, CallFaultKind.RESET, after=True, nth=(1,))
    name = task.run(tries=1)
    assert [job["name"] for job in vertex.jobs] == [*before, name]
    assert len(set(before) | {name}) == 1 + force_new


def test_a_job_whose_create_response_is_lost_is_found_even_if_it_failed(
    vertex: Emulator, submit_args: dict[str, Any]
) -> None:
    """Its name is known, so nobody has to be told that the outcome of the create is not."""
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.CREATE, kind=CallFaultKind.RESET, after=True, nth=(1,))],
        jobs=[JobFault(ends=JobState.FAILED, code=3, after_rows=0, exports=False)],
    )
    task = Task(lambda: GeminiBatchSubmitOperator(**submit_args))
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert (creates(vertex), len(vertex.jobs)) == (1, 1)


def shorten_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests time out after half a second."""
    monkeypatch.setattr(hook_module, "_TIMEOUT_MS", 500)
    monkeypatch.setattr(hook_module, "_clients", {})


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (CallFaultKind.RESET, {}),
        (CallFaultKind.STATUS, {"status": 499}),
        (CallFaultKind.STATUS, {"status": 500}),
        (CallFaultKind.STATUS, {"status": 502}),
        (CallFaultKind.STATUS, {"status": 503}),
    ],
)
def test_a_create_with_unknown_outcome_is_not_repeated_before_the_next_try(
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


def test_a_job_created_after_the_request_timed_out_is_found(
    vertex: Emulator, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request stalls and times out, and then the job appears."""
    shorten_timeout(monkeypatch)
    monkeypatch.setattr(submission, "LOOKUP_WAITS", (0.2,) * 7)
    vertex.faults = fault(Route.CREATE, CallFaultKind.STALL, nth=(1,), seconds=1.0)
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert (creates(vertex), len(vertex.jobs)) == (1, 1)


def test_a_rejected_create_raises_the_error_of_the_service(vertex: Emulator, task: Task) -> None:
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=409, nth=(1, 2))
    with pytest.raises(TaskFailedError) as caught:
        task.run(tries=1)
    assert isinstance(caught.value.__cause__, ApiError)
    assert vertex.jobs == ()


@pytest.mark.parametrize("status", [408, 409, 429, 499, 503])
def test_a_look_up_that_fails_is_repeated(vertex: Emulator, task: Task, status: int) -> None:
    vertex.faults = fault(Route.LIST, CallFaultKind.STATUS, status=status, nth=(1, 2))
    assert task.run(tries=2) == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1


@pytest.mark.parametrize("refusals", [1, 12])
def test_a_create_over_quota_is_sent_again_by_the_same_try(
    vertex: Emulator, task: Task, caplog: pytest.LogCaptureFixture, refusals: int
) -> None:
    nth = tuple(range(1, refusals + 1))
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=429, nth=nth)
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert (creates(vertex), len(vertex.jobs)) == (refusals + 1, 1)
    assert caplog.text.count("The batch job is not created yet: Vertex AI returned 429") == 1
    assert f" s and {refusals} refused request" in caplog.text


def test_a_create_over_quota_is_given_up_in_the_end(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    task = Task(lambda: GeminiBatchSubmitOperator(**submit_args, submit_timeout=0))
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=429, nth=(1,))
    with pytest.raises(TaskFailedError) as caught:
        task.run(tries=1)
    assert isinstance(caught.value.__cause__, SubmitTimeoutError)
    assert "No batch job was created" in str(caught.value.__cause__)
    assert "refused the request once in" in str(caught.value.__cause__)
    assert vertex.jobs == ()
    # The error is no reason to fail without a retry.
    assert task.run(tries=1) == vertex.jobs[0]["name"]


def test_the_last_refused_create_is_looked_for(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    task = Task(lambda: GeminiBatchSubmitOperator(**submit_args, submit_timeout=0))
    vertex.faults = fault(Route.CREATE, CallFaultKind.STATUS, status=429, nth=(1,), after=True)
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1


def test_a_look_up_over_quota_after_the_create_is_not_taken_for_a_refused_create(
    vertex: Emulator, task: Task
) -> None:
    """Also if the job is not listed for a while: it is not created a second time."""
    task.ti.try_number = 2  # It looks for rivals after the create.
    lists = len(submission.RETRY_WAITS) + 4
    vertex.faults = FaultPlan(
        calls=[
            CallFault(route=Route.LIST, kind=CallFaultKind.STATUS, status=429, nth=tuple(range(lists, 60))),
            CallFault(route=Route.LIST, kind=CallFaultKind.LAG, lists=3),
        ]
    )
    with contextlib.suppress(TaskFailedError):
        task.run(tries=1)
    assert creates(vertex) == 1


@pytest.mark.parametrize("route", [Route.CREATE, Route.LIST])
def test_a_rejected_token_is_replaced(vertex: Emulator, task: Task, route: Route) -> None:
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


def test_a_list_that_lags_longer_than_one_try_is_read_again_by_the_next(vertex: Emulator, task: Task) -> None:
    """No look-up of the first try finds the job, nor does the first one of the second try."""
    vertex.faults = FaultPlan(
        calls=[
            CallFault(route=Route.CREATE, kind=CallFaultKind.RESET, after=True, nth=(1,)),
            CallFault(route=Route.LIST, kind=CallFaultKind.LAG, lists=8),
        ]
    )
    assert task.run(tries=2) == vertex.jobs[0]["name"]
    assert [type(error) for error in task.failures] == [SubmissionOutcomeUnknownError]
    assert len(vertex.jobs) == 1


def test_a_worker_that_dies_before_it_records_its_job_and_a_list_that_lags(
    vertex: Emulator, task: Task
) -> None:
    task.run(tries=1)
    vertex.faults = fault(Route.LIST, CallFaultKind.LAG, lists=3)
    task.ti.try_number = 2
    assert task.run(tries=1) == vertex.jobs[0]["name"]
    assert len(vertex.jobs) == 1


def test_a_retry_that_keeps_looking_says_so_once(
    vertex: Emulator, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    task.run(tries=1)
    assert "Looking for a minute" not in caplog.text
    vertex.clear()
    task.ti.try_number = 2
    task.run(tries=1)
    assert caplog.text.count("Looking for a minute") == 1


def test_a_truncated_list(vertex: Emulator, task: Task) -> None:
    name = task.run(tries=1)
    vertex.faults = fault(Route.LIST, CallFaultKind.TRUNCATE, keep=0, nth=(1,))
    task.ti.try_number = 2
    assert task.run(tries=1) == name
    assert len(vertex.jobs) == 1


def test_a_failed_job_does_not_hide_a_newer_one(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    """The list contains the first job, which failed, but not yet the job that replaced it."""
    task = Task(lambda: GeminiBatchSubmitOperator(**submit_args))
    vertex.faults = FaultPlan(jobs=[JobFault(ends=JobState.FAILED, after_rows=0, exports=False, nth=(1,))])
    task.run(tries=1)
    task.ti.try_number = 2
    second = task.run(tries=1)
    assert len(vertex.jobs) == 2
    vertex.faults = fault(Route.LIST, CallFaultKind.LAG, lists=3)
    task.ti.try_number = 3
    assert task.run(tries=1) == second
    assert wrong_bill(vertex) == []


@pytest.mark.parametrize("ends", [JobState.SUCCEEDED, JobState.CANCELLED])
def test_a_job_that_completes_its_rows_despite_cancellation_is_not_paid_for_again(
    vertex: Emulator, submit_args: dict[str, Any], ends: JobState
) -> None:
    args = {**submit_args, "labels": labels("submit", pace="reads-8")}
    task = Task(lambda: GeminiBatchSubmitOperator(**args))
    vertex.faults = FaultPlan(jobs=[JobFault(path=(JobState.CANCELLING,), ends=ends, nth=(1,))])
    task.run(tries=1)
    task.ti.try_number = 2
    with contextlib.suppress(TaskFailedError):  # A job that was cancelled fails the task.
        task.run(tries=1)
    assert len(vertex.jobs) == 1
    assert wrong_bill(vertex) == []


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
def test_a_read_that_fails_once_is_repeated(
    vertex: Emulator, task: Task, route: Route, kind: CallFaultKind, more: dict[str, Any]
) -> None:
    name = task.run(tries=1)
    vertex.faults = fault(route, kind, nth=(1,), **more)
    assert task.run(tries=1) == name
    assert any(request.faults for request in vertex.requests)


def test_nothing_is_created_while_the_look_up_fails(vertex: Emulator, task: Task) -> None:
    vertex.faults = fault(Route.LIST, CallFaultKind.STATUS, status=503)
    with pytest.raises(TaskFailedError) as caught:
        task.run(tries=2)
    assert isinstance(caught.value.__cause__, ApiError)
    assert creates(vertex) == 0


@pytest.mark.parametrize("status", [401, 403])
def test_rejected_credentials_fail_without_retry_and_are_loaded_again(
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
    return hook_module.GeminiBatchHook().list_jobs("local-project", "global", "")


def test_a_token_that_is_rejected_twice(vertex: Emulator) -> None:
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


def test_a_token_endpoint_that_rejects_the_request(vertex: Emulator) -> None:
    vertex.faults = fault(Route.TOKEN, CallFaultKind.STATUS, status=400)
    with pytest.raises(PermissionDeniedError, match="Check the key"):
        list_jobs()


@pytest.mark.parametrize(("status", "kind"), [(400, PermissionDeniedError), (503, ServiceUnreachableError)])
def test_an_input_check_without_a_token_is_explained(
    vertex: Emulator, task: Task, status: int, kind: type[Exception]
) -> None:
    vertex.faults = fault(Route.TOKEN, CallFaultKind.STATUS, status=status)
    with pytest.raises(TaskFailedError) as caught:
        task.run(tries=1)
    assert isinstance(caught.value.__cause__, kind)


def test_a_lost_cancel_request_is_repeated_by_the_next_try(
    vertex: Emulator, task: Task, submit_args: dict[str, Any]
) -> None:
    """A changed request replaces the active job, which must not keep running next to the new one."""
    old = task.run(tries=1)
    changed = {**submit_args, "model": "gemini-3.1-pro-preview", "labels": {"emulator-pace": "reads-1000"}}
    vertex.faults = fault(Route.CANCEL, CallFaultKind.RESET, nth=(1,))
    task.clear()
    new = Task(lambda: GeminiBatchSubmitOperator(**changed), task.ti).run()
    states = {job["name"]: job["state"] for job in vertex.jobs}
    assert states[old] == "JOB_STATE_CANCELLING"
    assert states[new] == "JOB_STATE_PENDING"
    assert len(states) == 2
