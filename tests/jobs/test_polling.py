from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobName, JobState
from airflow_gemini_batch.exceptions import (
    ApiError,
    CredentialsUnavailableError,
    GeminiBatchError,
    JobNotFoundError,
    PermissionDeniedError,
    ServiceUnreachableError,
    UnreadableResponseError,
)
from airflow_gemini_batch.jobs.polling import PollState, PollStep, WaitOutcome

START = datetime(2026, 1, 1, tzinfo=UTC)
TRANSIENT = [
    ApiError(429, "RESOURCE_EXHAUSTED", "slow down"),
    ApiError(503, "UNAVAILABLE", "later"),
    ServiceUnreachableError("ReadTimeout"),
]
PERMANENT = [PermissionDeniedError(403, "PERMISSION_DENIED", "no"), JobNotFoundError(404, "NOT_FOUND", "no")]


def job(state: JobState, successful: int | None = None) -> BatchJob:
    return BatchJob(
        JobName("p", "l", "7"), state, create_time=START, stats=CompletionStats(successful=successful)
    )


def watch(interval: float = 60.0, deadline: datetime | None = None) -> PollState:
    return PollState(poll_interval=interval, deadline=deadline, seed="job")


@pytest.mark.parametrize("state", list(JobState))
def test_waiting_ends_when_the_job_ends_and_not_before(state: JobState) -> None:
    _, step = watch().after_read(job(state), START)
    assert (step.outcome is WaitOutcome.ENDED) == state.is_terminal
    assert state.is_terminal or step.wait > 0


def test_polls_are_frequent_at_first_and_never_further_apart_than_the_interval() -> None:
    now, watching, waits = START, watch(60.0), []
    for _ in range(30):
        watching, step = watching.after_read(job(JobState.RUNNING), now)
        waits.append(step.wait)
        now += timedelta(seconds=step.wait)
    assert waits[0] < 3
    assert all(wait <= 66.0 for wait in waits)
    assert min(waits[-10:]) >= 54.0


def test_the_interval_grows_with_time_not_with_the_number_of_polls() -> None:
    watching = watch(60.0)
    for tenth in range(100):
        watching, step = watching.after_read(job(JobState.RUNNING), START + timedelta(seconds=tenth / 10))
    assert 6 < step.wait < 8


def test_jitter_differs_between_jobs_and_is_repeatable_for_each() -> None:
    waits = {
        PollState(60.0, None, seed=str(n), polls=50).after_read(job(JobState.RUNNING), START)[1].wait
        for n in range(20)
    }
    again = {
        PollState(60.0, None, seed=str(n), polls=50).after_read(job(JobState.RUNNING), START)[1].wait
        for n in range(20)
    }
    assert len(waits) == 20
    assert waits == again


def test_a_state_is_logged_when_it_changes_not_at_every_poll() -> None:
    watching, first = watch().after_read(job(JobState.PENDING), START + timedelta(seconds=4))
    watching, second = watching.after_read(job(JobState.PENDING), START + timedelta(hours=1))
    watching, third = watching.after_read(job(JobState.RUNNING, 1200), START + timedelta(hours=26, minutes=3))
    assert first.message == "Batch job 7 is PENDING after 4 s"
    assert second.message == ""
    assert third.message == "Batch job 7 is RUNNING after 1 d 2 h 3 min: 1,200 succeeded"


def test_a_wait_never_passes_the_deadline() -> None:
    deadline = START + timedelta(seconds=1)
    _, step = watch(deadline=deadline).after_read(job(JobState.RUNNING), START)
    assert step.wait <= 1


def test_after_the_deadline_an_active_job_times_out() -> None:
    deadline = START
    _, step = watch(deadline=deadline).after_read(job(JobState.RUNNING), START + timedelta(seconds=1))
    assert step.outcome is WaitOutcome.TIMEOUT


def test_a_job_that_has_ended_is_reported_as_ended_even_after_the_deadline() -> None:
    _, step = watch(deadline=START).after_read(job(JobState.SUCCEEDED), START + timedelta(days=1))
    assert step.outcome is WaitOutcome.ENDED


@pytest.mark.parametrize("error", TRANSIENT)
def test_transient_errors_are_retried_and_logged_once_in_a_row(error: GeminiBatchError) -> None:
    watching, messages, waits = watch(), [], []
    for minute in range(200):
        watching, step = watching.after_error(error, START + timedelta(minutes=minute))
        assert step.outcome is None
        waits.append(step.wait)
        messages += [step.message] * bool(step.message)
    assert len(messages) == 1
    assert waits[0] < waits[3]
    assert max(waits) <= 66
    _, step = watching.after_read(job(JobState.RUNNING), START + timedelta(minutes=200))
    assert "reachable again after 200 failed polls in 3 h 20 min" in step.message


@pytest.mark.parametrize("error", TRANSIENT)
def test_transient_errors_are_retried_until_the_deadline(error: GeminiBatchError) -> None:
    _, step = watch(deadline=START).after_error(error, START + timedelta(seconds=1))
    assert step.outcome is WaitOutcome.TIMEOUT


@pytest.mark.parametrize("error", PERMANENT)
def test_permanent_errors_are_retried_twice_and_then_reported(error: GeminiBatchError) -> None:
    watching = watch()
    watching, first = watching.after_error(error, START)
    watching, second = watching.after_error(error, START)
    watching, third = watching.after_error(error, START)
    assert (first.outcome, second.outcome) == (None, None)
    assert third.outcome is WaitOutcome.ERROR
    assert third.message.startswith(str(error))
    is_gone = isinstance(error, JobNotFoundError)
    assert ("may still be running" in third.message) is not is_gone
    assert ("it is not running" in third.message) is is_gone


def test_a_successful_poll_resets_the_count_of_permanent_errors() -> None:
    watching = watch()
    for _ in range(5):
        watching, step = watching.after_error(PERMANENT[0], START)
        assert step.outcome is None
        watching, _ = watching.after_read(job(JobState.RUNNING), START)


LASTING = [*PERMANENT, UnreadableResponseError("<html>"), RecursionError("too deep"), KeyError("state")]


def after(errors: list[Exception], apart: timedelta = timedelta(0)) -> tuple[PollState, list[PollStep]]:
    watching, steps = watch(), []
    for number, error in enumerate(errors):
        watching, step = watching.after_error(error, START + number * apart)
        steps.append(step)
    return watching, steps


@pytest.mark.parametrize("error", LASTING)
def test_only_lasting_errors_count_towards_giving_up(error: Exception) -> None:
    _, steps = after([TRANSIENT[1], TRANSIENT[1], error, TRANSIENT[2], error, TRANSIENT[0], error])
    assert [step.outcome for step in steps] == [None] * 6 + [WaitOutcome.ERROR]


@pytest.mark.parametrize("error", LASTING)
def test_a_retry_of_the_task_helps_unless_the_service_has_refused(error: Exception) -> None:
    _, steps = after([error] * 3)
    assert steps[-1].retry_helps is not isinstance(error, ApiError)
    assert str(error) in steps[-1].message


@pytest.mark.parametrize("error", LASTING)
def test_the_first_failed_poll_says_what_ends_the_wait(error: Exception) -> None:
    _, steps = after([TRANSIENT[1], error, error])
    assert steps[0].message.endswith("Polling continues until the deadline.")
    assert steps[1].message.endswith("Polling ends when this happens 3 times.")
    assert steps[2].message == ""
    assert 27 <= steps[1].wait <= 33
    assert 54 <= steps[2].wait <= 66


def test_missing_credentials_end_the_wait_after_an_hour() -> None:
    error = CredentialsUnavailableError("google", "isn't defined")
    _, steps = after([error] * 61, apart=timedelta(minutes=1))
    assert [step.outcome for step in steps] == [None] * 60 + [WaitOutcome.ERROR]
    assert steps[-1].retry_helps
