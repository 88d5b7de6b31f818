"""Idempotent jobs, without a server; how they behave on one is tested with landing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_gemini_batch.exceptions import LandingError
from airflow_gemini_batch.gcp import bigquery_job, table_name
from airflow_gemini_batch.gcp.bigquery_job import Step
from tests.waits import replace_sleep


class Job:
    def __init__(self, job_id: str, error: dict[str, str] | None = None, polls: int = 0) -> None:
        self.job_id, self.error_result, self.polls = job_id, error, polls
        self.project, self.location = "project", "location"

    def done(self) -> bool:
        self.polls -= 1
        return self.polls < 0


class Server:
    """Jobs and tables by name."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def get_job(self, job_id: str, location: str | None) -> Job:
        from google.api_core.exceptions import NotFound

        if job_id not in self.jobs:
            raise NotFound("no job")
        return self.jobs[job_id]

    def get_table(self, name: str) -> str:
        from google.api_core.exceptions import NotFound

        if name != "p.d.t":
            raise NotFound("no table")
        return name

    def step(self, *errors: dict[str, str] | None, polls: int = 0) -> Step[Any]:
        """Describe a job that fails with each error in turn."""
        left = list(errors)

        def start(job_id: str) -> Job:
            self.jobs[job_id] = Job(job_id, left.pop(0) if left else None, polls)
            return self.jobs[job_id]

        return Step("stem", start, lambda _: True)


@pytest.fixture
def server() -> Any:
    return Server()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    replace_sleep(monkeypatch, found.append)
    return found


TRANSIENT = {"reason": "backendError", "message": "try again"}


def test_a_second_run_reuses_the_job(server: Any, pauses: list[float]) -> None:
    for _ in range(2):
        (job,) = bigquery_job.run(server, None, [server.step()])
        assert job.job_id == "stem-1"
    assert bigquery_job.find(server, None, server.step()) is job


def test_a_running_job_is_polled_at_growing_intervals(server: Any, pauses: list[float]) -> None:
    bigquery_job.run(server, None, [server.step(polls=200)])
    assert len(pauses) == 200
    assert max(pauses[:10]) < 0.4
    assert max(pauses) <= 10


def test_transient_failures_are_retried_under_the_next_id(server: Any, pauses: list[float]) -> None:
    (job,) = bigquery_job.run(server, None, [server.step(TRANSIENT, TRANSIENT)])
    assert job.job_id == "stem-3"
    assert len(pauses) == 2


def test_transient_failures_are_not_retried_forever(server: Any, pauses: list[float]) -> None:
    with pytest.raises(LandingError, match="stem-6 failed, nothing was landed: backendError"):
        bigquery_job.run(server, None, [server.step(*[TRANSIENT] * 9)])
    assert len(pauses) == 5


def test_conflicts_are_retried_more_often(server: Any, pauses: list[float]) -> None:
    """Many landings in one table take turns; they conflict, and have other failures as well."""
    conflict = {
        "reason": "invalidQuery",
        "message": "Transaction is aborted due to concurrent update against table p:d.t. Transaction ID: 1",
    }
    failures = [conflict, TRANSIENT] * 5 + [conflict] * 25
    (job,) = bigquery_job.run(server, None, [server.step(*failures)])
    assert job.job_id == "stem-36"
    with pytest.raises(LandingError, match=r"stem-67 failed.*concurrent update"):
        bigquery_job.run(server, None, [replace(server.step(*[conflict] * 40), is_usable=lambda _: False)])


def test_other_failures_are_not_retried(server: Any, pauses: list[float]) -> None:
    with pytest.raises(LandingError, match=r"stem-1 failed.*invalidQuery"):
        bigquery_job.run(server, None, [server.step({"reason": "invalidQuery"})])
    assert not pauses


def test_a_job_that_another_worker_started_first_is_reused(server: Any, pauses: list[float]) -> None:
    from google.api_core.exceptions import Conflict

    def start(job_id: str) -> Job:
        server.jobs[job_id] = Job(job_id)
        raise Conflict("exists")

    (job,) = bigquery_job.run(server, None, [Step("stem", start, lambda _: True)])
    assert job is server.jobs["stem-1"]


def test_a_missing_table_is_none(server: Any) -> None:
    assert table_name.get_table(server, "p.d.none") is None
    assert table_name.get_table(server, table_name.TableName("p", "d", "t")) is not None


def test_without_patience_running_jobs_are_given_back_together(server: Any, pauses: list[float]) -> None:
    steps = [replace(server.step(polls=9), stem=stem) for stem in ("a", "b")]
    patience = bigquery_job.Patience(0.0)
    with patience.applies(), pytest.raises(bigquery_job.StillRunningError) as caught:
        bigquery_job.run(server, None, steps)
    assert [job.job_id for job in caught.value.jobs] == ["a-1", "b-1"]
    assert patience.started == {"a-1", "b-1"}
    # Outside, every call waits as long as a job runs.
    assert [job.job_id for job in bigquery_job.run(server, None, steps)] == ["a-1", "b-1"]


def test_patience_is_that_of_all_calls_together(server: Any) -> None:
    patience = bigquery_job.Patience(0.5)
    with patience.applies():
        bigquery_job.run(server, None, [replace(server.step(polls=2), stem="short")])
        assert patience.left is not None
        assert 0.0 < patience.left < 0.5
        with pytest.raises(bigquery_job.StillRunningError):
            bigquery_job.run(server, None, [server.step(polls=99)])
        assert patience.left < 0.3


@pytest.mark.parametrize("is_ours", [True, False])
def test_whose_failure_it_is_survives_the_process(server: Any, pauses: list[float], is_ours: bool) -> None:
    final = {"reason": "invalidQuery"}
    server.jobs["stem-1"] = Job("stem-1", final)
    patience = bigquery_job.Patience(started={"stem-1"} if is_ours else set())
    with patience.applies():
        if is_ours:
            with pytest.raises(LandingError, match="stem-1 failed"):
                bigquery_job.run(server, None, [server.step()])
        else:
            (job,) = bigquery_job.run(server, None, [server.step()])
            assert job.job_id == "stem-2"
    assert not pauses


def test_failures_before_a_deferral_count_and_are_not_paused_for_again(
    server: Any, pauses: list[float]
) -> None:
    for number in range(1, 5):
        server.jobs[f"stem-{number}"] = Job(f"stem-{number}", TRANSIENT)
    patience = bigquery_job.Patience(started={f"stem-{number}" for number in range(1, 5)})
    with patience.applies(), pytest.raises(LandingError, match="stem-6 failed"):
        bigquery_job.run(server, None, [server.step(*[TRANSIENT] * 9)])
    assert len(pauses) == 2


@pytest.mark.parametrize(("is_ours", "attempt"), [(True, 1), (False, 2)])
def test_what_became_of_an_own_result_is_not_undone(
    server: Any, pauses: list[float], is_ours: bool, attempt: int
) -> None:
    server.jobs["stem-1"] = Job("stem-1")
    step = replace(server.step(), is_usable=lambda _: False, is_same=lambda _: True)
    with bigquery_job.Patience(started={"stem-1"} if is_ours else set()).applies():
        (job,) = bigquery_job.run(server, None, [step])
    assert job.job_id == f"stem-{attempt}"


def test_an_outage_is_not_taken_for_a_job_that_runs(server: Any, pauses: list[float]) -> None:
    from google.api_core.exceptions import RetryError, ServiceUnavailable

    class Unreachable(Job):
        def done(self) -> bool:
            raise RetryError("gave up", ServiceUnavailable("no"))

    server.jobs["stem-1"] = Unreachable("stem-1")
    with bigquery_job.Patience(1.0).applies(), pytest.raises(RetryError):
        bigquery_job.run(server, None, [server.step()])
