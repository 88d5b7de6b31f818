"""How the states of a job advance with time and reads."""

from __future__ import annotations

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.running.job_clock import IMMEDIATE, Pace, Walk
from airflow_gemini_batch.exceptions import InvalidParameterError

PENDING, RUNNING, CANCELLING = JobState.PENDING, JobState.RUNNING, JobState.CANCELLING


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("immediate", IMMEDIATE),
        ("reads:3", Pace(reads=3)),
        ("reads-3", Pace(reads=3)),
        ("seconds:2", Pace(seconds=2)),
        ("seconds:0.5", Pace(seconds=0.5)),
        ("milliseconds-500", Pace(seconds=0.5)),
    ],
)
def test_a_pace_is_parsed(text: str, pace: Pace) -> None:
    assert Pace.parse(text) == pace


@pytest.mark.parametrize("text", ["", "fast", "reads", "reads:", "reads:1.5", "seconds:-1", "seconds 2"])
def test_an_invalid_pace_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError) as error:
        Pace.parse(text, "--pace")
    assert error.value.parameter == "--pace"
    assert "reads:3" in error.value.fix


def test_a_pace_round_trips_through_text() -> None:
    for pace in (IMMEDIATE, Pace(reads=2), Pace(seconds=0.25)):
        assert Pace.parse(str(pace)) == pace


def test_reads_move_a_job_and_time_does_not() -> None:
    walk = Walk(Pace(reads=2), started=0)
    seen = []
    for _ in range(6):
        seen.append(walk.state(now=10**6))
        walk = walk.shown()
    assert seen == [PENDING, PENDING, RUNNING, RUNNING, None, None]
    assert walk.seconds_until(2, now=0) is None


def test_time_moves_a_job_and_reads_do_not() -> None:
    walk = Walk(Pace(seconds=2), started=100).shown().shown().shown()
    assert [walk.state(now) for now in (100, 101.9, 102, 103.9, 104)] == [
        PENDING,
        PENDING,
        RUNNING,
        RUNNING,
        None,
    ]
    assert walk.seconds_until(2, now=101) == 3
    assert walk.seconds_until(1, now=105) == 0


def test_immediate_shows_the_final_state() -> None:
    assert Walk(IMMEDIATE, started=0).state(now=0) is None


@pytest.mark.parametrize(("now", "share"), [(0, 0), (2, 0), (3, 0.5), (4, 1), (9, 1)])
def test_the_share_of_running_counts_from_its_start(now: float, share: float) -> None:
    assert Walk(Pace(seconds=2), started=0).share_run(now) == share


def test_changing_the_path_restarts_the_clock() -> None:
    walk = Walk(Pace(reads=1), started=0).shown().turned((CANCELLING,), now=5)
    assert walk.state(now=5) is CANCELLING
    assert walk.shown().state(now=5) is None
    assert walk.share_run(now=5) == 0
