"""decide() is pure; submit() is tested over HTTP in tests/faces."""

from __future__ import annotations

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.jobs.identity import Mark
from airflow_gemini_batch.jobs.submission import Action, OnChangedInput, Policy, decide

MINE = Mark("a" * 24, "1" * 16)
CHANGED = Mark("a" * 24, "2" * 16)
OTHER_RUN = Mark("b" * 24, "1" * 16)

DEAD = [JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED, JobState.CANCELLING]
ACTIVE = [state for state in JobState if not state.is_terminal and state not in DEAD]


def job(state: JobState, mark: Mark | None = MINE, job_id: str = "1") -> BatchJob:
    name = f"title [{mark.run}.{mark.request}]" if mark else "title"
    return BatchJob(JobName("p", "l", job_id), state, display_name=name)


def test_nothing_there_creates() -> None:
    assert decide([], MINE, Policy()).action is Action.CREATE


@pytest.mark.parametrize("mark", [OTHER_RUN, None])
def test_jobs_of_others_are_not_touched(mark: Mark | None) -> None:
    found = [job(JobState.RUNNING, mark), job(JobState.SUCCEEDED, mark)]
    decision = decide(found, MINE, Policy())
    assert decision.action is Action.CREATE
    assert not decision.to_cancel


@pytest.mark.parametrize("state", ACTIVE)
@pytest.mark.parametrize("reuse", [True, False])
def test_a_job_under_way_is_attached_to_even_when_new_ones_are_wanted(state: JobState, reuse: bool) -> None:
    decision = decide([job(state)], MINE, Policy(reuse_succeeded=reuse))
    assert decision.action is Action.ATTACH


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED])
def test_a_job_that_succeeded_is_paid_again_only_on_purpose(state: JobState) -> None:
    assert decide([job(state)], MINE, Policy()).action is Action.ATTACH
    assert decide([job(state)], MINE, Policy(reuse_succeeded=False)).action is Action.CREATE


@pytest.mark.parametrize("state", DEAD)
def test_a_job_that_ended_badly_or_is_about_to_is_followed_by_a_new_one(state: JobState) -> None:
    decision = decide([job(state)], MINE, Policy())
    assert decision.action is Action.CREATE
    assert state.name in decision.reason


def test_a_job_of_a_changed_request_that_is_cancelled_already_is_not_cancelled_again() -> None:
    decision = decide([job(JobState.CANCELLING, CHANGED)], MINE, Policy(OnChangedInput.FAIL))
    assert decision.action is Action.CREATE
    assert not decision.to_cancel


@pytest.mark.parametrize("state", DEAD)
def test_a_live_job_beats_the_dead_ones_before_it(state: JobState) -> None:
    found = [job(JobState.PENDING, job_id="2"), job(state, job_id="1")]
    decision = decide(found, MINE, Policy())
    assert decision.action is Action.ATTACH
    assert decision.job is found[0]


def test_two_live_jobs_of_one_request_attach_to_the_older() -> None:
    found = [job(JobState.PENDING, job_id="2"), job(JobState.RUNNING, job_id="1")]
    assert decide(found, MINE, Policy()).job is found[1]


def test_a_live_job_of_a_changed_request_is_replaced_or_refused() -> None:
    found = [job(JobState.RUNNING, CHANGED)]
    replaced = decide(found, MINE, Policy())
    assert replaced.action is Action.REPLACE
    assert replaced.to_cancel == (found[0],)
    assert decide(found, MINE, Policy(OnChangedInput.FAIL)).action is Action.REFUSE


def test_an_ended_job_of_a_changed_request_is_left_alone() -> None:
    found = [job(JobState.SUCCEEDED, CHANGED)]
    assert decide(found, MINE, Policy(OnChangedInput.FAIL)).action is Action.CREATE
