"""Jobs are cancelled and deleted by name: those of this installation, and never so that one pays twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, Route
from airflow_gemini_batch.exceptions import (
    ApiError,
    DeletionRefusedError,
    InvalidParameterError,
    OtherInstallationError,
)
from airflow_gemini_batch.jobs.identity import INSTALLATION_LABEL, RunIdentity, marked
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.operators.jobs import (
    GeminiBatchCancelJobOperator,
    GeminiBatchDeleteJobOperator,
    old_jobs,
)
from airflow_gemini_batch.tasks.parameters import days
from tests.task_instance import TaskInstance

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator

Context = dict[str, Any]
SLOW = {"emulator-pace": "reads-100000"}
UNKNOWN = "projects/p/locations/global/batchPredictionJobs/404"


def submit(args: dict[str, Any], run_id: str = "run", **more: Any) -> str:
    name: str = GeminiBatchSubmitOperator(**args, **more).execute({"ti": TaskInstance(run_id=run_id)})
    return name


def submit_elsewhere(args: dict[str, Any], patch: pytest.MonkeyPatch, **more: Any) -> str:
    """Submit a job as another installation does that runs the same DAG."""
    with patch.context() as elsewhere:
        elsewhere.setenv("AIRFLOW__GEMINI_BATCH__INSTALLATION", "development")
        return submit(args, **more)


def states(vertex: Emulator) -> list[str]:
    return [job["state"].removeprefix("JOB_STATE_") for job in vertex.jobs]


def calls(vertex: Emulator, method: str, end: str = "") -> int:
    return len([each for each in vertex.requests if each.method == method and each.path.endswith(end)])


def cancel(job_name: Any, **more: Any) -> list[str]:
    done: list[str] = GeminiBatchCancelJobOperator(task_id="cancel", job_name=job_name, **more).execute({})
    return done


def delete(job_name: Any, **more: Any) -> list[str]:
    done: list[str] = GeminiBatchDeleteJobOperator(task_id="delete", job_name=job_name, **more).execute({})
    return done


def test_jobs_are_cancelled_and_the_rest_is_no_error(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    running = submit(submit_args, labels=SLOW)
    ended = submit(submit_args, "ended", wait_for_completion=True, deferrable=False, poll_interval=0.05)
    assert cancel([running, ended, UNKNOWN, running]) == [running]
    assert states(vertex)[0] in ("CANCELLING", "CANCELLED")
    assert states(vertex)[1] == "SUCCEEDED"
    assert cancel(running) == []
    assert calls(vertex, "POST", ":cancel") == 1
    assert cancel([]) == []


def test_many_jobs_are_read_from_a_list(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    names = [submit(submit_args, f"run {number}", labels=SLOW) for number in range(15)]
    already = calls(vertex, "GET")
    assert cancel([*names, UNKNOWN]) == names
    # One list, the first and the unknown job by name.
    assert calls(vertex, "GET") - already == 3
    assert cancel([UNKNOWN, *names]) == []


def test_a_job_of_another_installation_is_cancelled_only_if_the_user_says_so(
    vertex: Emulator, submit_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = submit(submit_args, labels=SLOW)
    theirs = submit_elsewhere(submit_args, monkeypatch, labels=SLOW)
    with pytest.raises(AirflowFailException, match="belongs to another Airflow installation") as refused:
        cancel([mine, theirs])
    assert isinstance(refused.value.__cause__, OtherInstallationError)
    assert calls(vertex, "POST", ":cancel") == 0
    assert cancel([mine, theirs], any_installation=True) == [mine, theirs]


def test_a_job_of_nobody_and_one_that_does_not_say_whose_it_is_are_left_alone(
    vertex: Emulator, submit_args: dict[str, Any]
) -> None:
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.spec import job_spec

    given = {name: submit_args[name] for name in ("model", "input_uri", "output_uri", "location")}
    spec = job_spec(**given, project="p", display_name="by hand", labels=SLOW)
    by_hand = GeminiBatchHook().create_job(spec)
    with pytest.raises(AirflowFailException, match="was not created by this package"):
        cancel(str(by_hand.name))
    unsaid = marked(spec, RunIdentity("dag", "task", "run", -1))
    labels = {key: value for key, value in unsaid.labels.items() if key != INSTALLATION_LABEL}
    of_unknown = GeminiBatchHook().create_job(replace(unsaid, labels=labels))
    with pytest.raises(AirflowFailException, match="does not say which Airflow installation created it"):
        cancel(str(of_unknown.name))


def test_a_job_is_deleted_when_it_is_old(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    name = submit(submit_args, wait_for_completion=True, deferrable=False, poll_interval=0.05)
    with pytest.raises(
        AirflowFailException, match=r"pay for all rows again.* 30 days \(min_age_days\)"
    ) as no:
        delete(name)
    assert isinstance(no.value.__cause__, DeletionRefusedError)
    assert old_jobs("global") == []
    assert old_jobs("global", 0) == [name]
    assert delete([name, UNKNOWN], min_age_days="0") == [name]
    assert vertex.jobs == ()
    assert delete(name, min_age_days=0) == []


def test_a_deleted_job_is_paid_again_which_is_why_young_ones_are_kept(
    vertex: Emulator, submit_args: dict[str, Any]
) -> None:
    waits = {"wait_for_completion": True, "deferrable": False, "poll_interval": 0.05}
    first = submit(submit_args, **waits)
    with pytest.raises(AirflowFailException):
        delete(first)
    assert submit(submit_args, **waits) == first
    delete(first, min_age_days=0)
    assert submit(submit_args, **waits) != first


def test_a_running_job_is_not_deleted_and_nothing_is(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    ended = submit(submit_args, wait_for_completion=True, deferrable=False, poll_interval=0.05)
    running = submit(submit_args, "running", labels=SLOW)
    with pytest.raises(AirflowFailException, match=r"it has not ended\. Cancel it with"):
        delete([ended, running], min_age_days=0)
    assert calls(vertex, "DELETE") == 0


def test_a_job_of_another_installation_is_deleted_only_if_the_user_says_so(
    vertex: Emulator, submit_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = {"wait_for_completion": True, "deferrable": False, "poll_interval": 0.05}
    name = submit_elsewhere(submit_args, monkeypatch, **waits)
    assert old_jobs("global", 0) == []
    with pytest.raises(AirflowFailException, match="belongs to another Airflow installation"):
        delete(name, min_age_days=0)
    assert delete(name, min_age_days=0, any_installation=True) == [name]


def test_a_delete_whose_answer_is_lost_is_done(
    vertex: Emulator, submit_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = submit(submit_args, wait_for_completion=True, deferrable=False, poll_interval=0.05)
    vertex.faults = FaultPlan(
        calls=[CallFault(kind=CallFaultKind.RESET, route=Route.DELETE, nth=(1,), after=True)]
    )
    assert delete(name, min_age_days=0) == []
    assert vertex.jobs == ()


@pytest.mark.parametrize("value", ["", "soon", "-1", -0.5, True, None, "nan", "inf"])
def test_an_age_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"min_age_days=.*give a number of days"):
        days("min_age_days", value)
    assert days("min_age_days", "1.5") == timedelta(hours=36)


def test_wrong_values_are_refused_when_the_dag_is_parsed() -> None:
    for kind in (GeminiBatchCancelJobOperator, GeminiBatchDeleteJobOperator):
        with pytest.raises(InvalidParameterError, match=r"job_name\[1\]='12'"):
            kind(task_id="t", job_name=[UNKNOWN, "12"])
        with pytest.raises(InvalidParameterError, match="any_installation='no': give True or False"):
            kind(task_id="t", job_name=UNKNOWN, any_installation="no")
    with pytest.raises(InvalidParameterError, match="min_age_days=-1"):
        GeminiBatchDeleteJobOperator(task_id="t", job_name=UNKNOWN, min_age_days=-1)
    GeminiBatchDeleteJobOperator(task_id="t", job_name="{{ x }}", min_age_days="{{ params.days }}")


def test_an_error_of_the_service_fails_the_task(vertex: Emulator, submit_args: dict[str, Any]) -> None:
    name = submit(submit_args, wait_for_completion=True, deferrable=False, poll_interval=0.05)
    vertex.faults = FaultPlan(calls=[CallFault(kind=CallFaultKind.STATUS, status=403, route=Route.DELETE)])
    with pytest.raises(AirflowFailException) as error:
        delete(name, min_age_days=0)
    assert isinstance(error.value.__cause__, ApiError)
