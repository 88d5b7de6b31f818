"""However many pages are open, the jobs are listed once an interval, and nobody waits for the list."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.exceptions import (
    ApiError,
    CredentialsUnavailableError,
    ServiceUnreachableError,
)
from airflow_gemini_batch.job_page.cache import JobCache, Listing, problem_of

JOB = BatchJob(JobName("p", "global", "1"), JobState.RUNNING)


class Service:
    """Answers when the test lets it."""

    def __init__(self) -> None:
        self.looks = 0
        self.may_answer = threading.Event()
        self.error: Exception | None = None
        self.now = 1000.0

    def __call__(self) -> Listing:
        self.looks += 1
        assert self.may_answer.wait(10)
        if self.error:
            raise self.error
        return Listing((JOB,) * self.looks)


@pytest.fixture
def service() -> Service:
    return Service()


def finish(cache: JobCache) -> None:
    for thread in threading.enumerate():
        if thread.name == "gemini-batch-page":
            thread.join(10)
    assert not cache.snapshot().is_looking


def test_fifty_pages_cost_one_list(service: Service) -> None:
    cache = JobCache(service, interval=60, clock=lambda: service.now)
    with ThreadPoolExecutor(50) as pages:
        first = [future.result() for future in [pages.submit(cache.snapshot) for _ in range(50)]]
    # None of them has waited.
    assert {(each.at, each.is_looking) for each in first} == {(None, True)}
    service.may_answer.set()
    finish(cache)
    service.now += 59
    assert [len(cache.snapshot().listing.jobs) for _ in range(50)] == [1] * 50
    assert service.looks == 1
    service.now += 1
    assert cache.snapshot().is_looking
    finish(cache)
    assert len(cache.snapshot().listing.jobs) == 2
    assert service.looks == 2


def test_without_a_page_nothing_is_listed(service: Service) -> None:
    JobCache(service, clock=lambda: service.now)
    assert service.looks == 0


def test_the_last_list_is_shown_while_the_next_is_made(service: Service) -> None:
    cache = JobCache(service, interval=60, clock=lambda: service.now)
    service.may_answer.set()
    cache.snapshot()
    finish(cache)
    service.may_answer.clear()
    service.now += 60
    again = cache.snapshot()
    assert again.is_looking
    assert len(again.listing.jobs) == 1
    service.may_answer.set()
    finish(cache)


def test_an_error_is_shown_and_the_next_list_is_tried(service: Service) -> None:
    cache = JobCache(service, interval=60, clock=lambda: service.now)
    service.may_answer.set()
    service.error = ZeroDivisionError("/home/airflow/secret")
    cache.snapshot()
    finish(cache)
    (problem,) = cache.snapshot().listing.problems
    assert problem == "An unexpected error. The log of the api-server says more."
    service.error = None
    service.now += 60
    cache.snapshot()
    finish(cache)
    assert cache.snapshot().listing.problems == ()


def test_a_problem_tells_nothing_of_credentials() -> None:
    secret = CredentialsUnavailableError("google_cloud_default", "key file /run/secrets/key.json is broken")
    assert "secrets" not in problem_of(secret)
    assert "proxy.internal" not in problem_of(ServiceUnreachableError("proxy.internal refused it"))
    assert "403 PERMISSION_DENIED" in problem_of(ApiError(403, "PERMISSION_DENIED", "no"))
