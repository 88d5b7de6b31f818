from __future__ import annotations

import heapq
import random
from datetime import UTC, datetime, timedelta

import pytest

from airflow_gemini_batch.emulator.protocol.errors import CallError
from airflow_gemini_batch.emulator.quotas import Meter, Quotas
from airflow_gemini_batch.exceptions import ApiError
from airflow_gemini_batch.jobs.quota import DEFAULT_SUBMIT_TIMEOUT, QuotaStreak

ERROR = ApiError(429, "RESOURCE_EXHAUSTED", "Quota exceeded.")


def streak(refusals: int, patience: timedelta = timedelta(days=1)) -> QuotaStreak:
    return QuotaStreak(100.0, patience, refusals)


@pytest.mark.parametrize(
    ("refusals", "shortest", "longest"),
    [(1, 30, 90), (10, 30, 90), (11, 60, 180), (13, 240, 720), (99, 240, 720)],
)
def test_a_wait_is_about_a_minute_and_longer_after_many_refusals(
    refusals: int, shortest: float, longest: float
) -> None:
    waits = [streak(refusals).wait(100.0) for _ in range(500)]
    assert shortest <= min(waits) < shortest * 1.2
    assert longest >= max(waits) > longest * 0.9


def test_a_wait_ends_with_the_patience() -> None:
    short = streak(1, timedelta(seconds=40))
    assert short.wait(135.0) == 5.0
    assert not short.is_over(139.0)
    assert short.is_over(140.0)
    assert short.wait(150.0) == 0.0


def test_the_lines_say_until_when_and_how_long() -> None:
    now = datetime(2026, 11, 28, 14, tzinfo=UTC)
    begins = streak(0, timedelta(minutes=30)).begins(ERROR, now)
    assert "429 RESOURCE_EXHAUSTED: Quota exceeded." in begins
    assert "until 2026-11-28 14:30:00 UTC (submit_timeout)" in begins
    assert streak(3).ends(175.0) == "The quota has room again, after 1 min 15 s and 3 refused requests."


def submit_at_once(tasks: int, quotas: Quotas) -> tuple[float, int, int]:
    """Let tasks submit as they do, on a clock of their own.

    :return: when the last one was through, in seconds; how many were not in time; number of requests
    """
    random.seed(20261128)
    now = 0.0
    meter = Meter(quotas, lambda: now)
    waiting: list[tuple[float, int, QuotaStreak | None]] = [
        (random.uniform(0, 5), task, None) for task in range(tasks)
    ]
    heapq.heapify(waiting)
    last, late, requests = 0.0, 0, 0
    while waiting:
        now, task, streak = heapq.heappop(waiting)
        requests += 1
        try:
            meter.spend("create", "projects/p/locations/l")
            last = now
        except CallError:
            streak = (streak or QuotaStreak(now, DEFAULT_SUBMIT_TIMEOUT)).refused()
            if streak.is_over(now):
                late += 1
            else:
                heapq.heappush(waiting, (now + streak.wait(now), task, streak))
    return last, late, requests


@pytest.mark.parametrize("slides", [False, True])
def test_500_tasks_take_as_long_as_the_quota_and_a_fifth(slides: bool) -> None:
    seconds, late, requests = submit_at_once(500, Quotas(slides=slides))
    assert late == 0
    assert seconds <= 500 / 60 * 60 * 1.2
    # Each costs a look-up, of which there are 600 a minute.
    assert requests < 500 * 5


def test_1000_tasks_are_in_time() -> None:
    assert submit_at_once(1000, Quotas())[1] == 0


def test_tasks_are_through_even_if_refused_requests_keep_the_quota_used_up() -> None:
    """A second try of Airflow has the same time again; 500 tasks take that long only in the worst case."""
    assert submit_at_once(200, Quotas(slides=True, counts_refused=True))[1] == 0
