"""Which action decide() takes. submit() is tested over HTTP in tests/tasks and tests/reliability."""

from __future__ import annotations

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.jobs.decision import Action, OnChangedInput, Policy, decide
from airflow_gemini_batch.jobs.identity import Mark

MINE = Mark("a" * 24, "1" * 16)
CHANGED = Mark("a" * 24, "2" * 16)
OTHER_RUN = Mark("b" * 24, "1" * 16)

ENDED_OR_CANCELLING = [JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED, JobState.CANCELLING]
ACTIVE = [state for state in JobState if not state.is_terminal and state not in ENDED_OR_CANCELLING]


def job(state: JobState, mark: Mark | None = MINE, job_id: str = "1") -> BatchJob:
    name = f"title [{mark.run}.{mark.request}]" if mark else "title"
    return BatchJob(JobName("p", "l", job_id), state, display_name=name)


def test_without_a_job_one_is_created() -> None:
    assert decide([], MINE, Policy()).action is Action.CREATE


@pytest.mark.parametrize("mark", [OTHER_RUN, None])
def test_jobs_of_other_runs_are_ignored(mark: Mark | None) -> None:
    found = [job(JobState.RUNNING, mark), job(JobState.SUCCEEDED, mark)]
    decision = decide(found, MINE, Policy())
    assert decision.action is Action.CREATE
    assert not decision.to_cancel


@pytest.mark.parametrize("state", ACTIVE)
@pytest.mark.parametrize("reuse", [True, False])
def test_an_active_job_is_reused_even_with_force_new(state: JobState, reuse: bool) -> None:
    decision = decide([job(state)], MINE, Policy(reuse_succeeded=reuse))
    assert decision.action is Action.ATTACH


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED])
def test_a_job_that_succeeded_is_repeated_only_on_request(state: JobState) -> None:
    assert decide([job(state)], MINE, Policy()).action is Action.ATTACH
    assert decide([job(state)], MINE, Policy(reuse_succeeded=False)).action is Action.CREATE


@pytest.mark.parametrize("state", ENDED_OR_CANCELLING)
def test_a_job_that_did_not_succeed_or_is_being_cancelled_is_replaced(state: JobState) -> None:
    decision = decide([job(state)], MINE, Policy())
    assert decision.action is Action.CREATE
    assert state.name in decision.reason


def test_an_outdated_job_that_is_being_cancelled_is_not_cancelled_again() -> None:
    decision = decide([job(JobState.CANCELLING, CHANGED)], MINE, Policy(OnChangedInput.FAIL))
    assert decision.action is Action.CREATE
    assert not decision.to_cancel


@pytest.mark.parametrize("state", ENDED_OR_CANCELLING)
def test_an_active_job_takes_precedence_over_older_ones_that_ended(state: JobState) -> None:
    found = [job(JobState.PENDING, job_id="2"), job(state, job_id="1")]
    decision = decide(found, MINE, Policy())
    assert decision.action is Action.ATTACH
    assert decision.job is found[0]


def test_of_two_active_jobs_for_one_request_the_older_is_reused() -> None:
    found = [job(JobState.PENDING, job_id="2"), job(JobState.RUNNING, job_id="1")]
    assert decide(found, MINE, Policy()).job is found[1]


def test_an_active_outdated_job_is_replaced_or_reported_as_a_conflict() -> None:
    found = [job(JobState.RUNNING, CHANGED)]
    replaced = decide(found, MINE, Policy())
    assert replaced.action is Action.REPLACE
    assert replaced.to_cancel == (found[0],)
    assert decide(found, MINE, Policy(OnChangedInput.FAIL)).action is Action.REFUSE


def test_an_outdated_job_that_has_ended_is_ignored() -> None:
    found = [job(JobState.SUCCEEDED, CHANGED)]
    assert decide(found, MINE, Policy(OnChangedInput.FAIL)).action is Action.CREATE
