"""Which jobs have ended since the last look, with lists that are late, and a reader that dies."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.ended_jobs import (
    OLDEST,
    Cursor,
    JobFilter,
    Look,
    event_payload,
    look_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

START = datetime(2026, 11, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def job(
    number: int, created: float, state: JobState = JobState.RUNNING, end: float | None = None
) -> BatchJob:
    """A job, with times in minutes."""
    return BatchJob(
        JobName("p", "global", str(number)),
        state,
        create_time=START + created * MINUTE,
        end_time=None if end is None else START + end * MINUTE,
    )


def ids(jobs: Sequence[BatchJob]) -> list[str]:
    return [each.name.job_id for each in jobs]


@dataclass(frozen=True)
class Life:
    """A job of the service, with times in minutes.

    :param hidden: how long the list does not show it after its creation
    """

    created: int
    runs: int
    hidden: int

    @property
    def end(self) -> int:
        return self.created + self.runs


# Most jobs and looks are close to others, where lists go wrong.
CREATED = st.integers(0, 150) | st.integers(0, 6000)
LIVES = st.lists(
    st.builds(
        Life, created=CREATED, runs=st.integers(0, 100) | st.integers(0, 5700), hidden=st.integers(0, 55)
    ),
    min_size=1,
    max_size=12,
)
# When the reader looks; which jobs the list omits that time, as bits; whether the reader then dies; how many
# minutes it reads.
LOOKS = st.lists(
    st.tuples(
        st.integers(0, 250) | st.integers(0, 12_000), st.integers(0, 4095), st.booleans(), st.integers(0, 30)
    ),
    min_size=2,
    max_size=20,
)


@dataclass
class Service:
    """Lists jobs, newest first. It may omit those that are younger than an hour or that the reader knows."""

    lives: list[Life]

    def look(self, cursor: Cursor, at: int, omitted: int = 0, pages: int = 0) -> Look:
        """A list whose pages are read one after the other, for ``pages`` minutes."""
        found = []
        numbered = sorted(enumerate(self.lives), key=lambda each: -each[1].created)
        for place, (number, life) in enumerate(numbered):
            read = at + pages * place // max(len(self.lives), 1)
            may_omit = str(number) in cursor.active or at - life.created < 60
            is_omitted = may_omit and omitted >> number & 1
            is_shown = life.created + life.hidden <= at and not is_omitted
            if is_shown and START + life.created * MINUTE >= cursor.since:
                has_ended = life.end <= read
                state = JobState.SUCCEEDED if has_ended else JobState.RUNNING
                found.append(job(number, life.created, state, life.end if has_ended else None))
        return Look(cursor.since, tuple(found))


@settings(max_examples=200, deadline=None)
@given(lives=LIVES, looks=LOOKS)
def test_each_job_that_ends_is_told_once_and_again_only_after_a_crash(
    lives: list[Life], looks: list[tuple[int, int, bool, int]]
) -> None:
    service, told, again = Service(lives), Counter[str](), set[str]()
    # The first look shows all, so that it is known what has ended before.
    (first, *_), *later = sorted(looks)
    stored = Cursor.first(service.look(Cursor(START + first * MINUTE - OLDEST), first))
    for at, omitted, dies, pages in [*later, (13_000, 0, False, 0)]:
        new, cursor = stored.after(service.look(stored, at, omitted, pages))
        told.update(ids(new))
        if dies:
            again.update(ids(new))  # It dies before the cursor is stored, so it tells them again.
            continue
        read = Cursor.from_dict(json.loads(json.dumps(cursor.to_dict())))
        assert read == cursor
        stored = read
    for number, life in enumerate(lives):
        count = told[str(number)]
        if life.end > first:
            assert count == 1 or (count > 1 and str(number) in again)
        elif life.created + life.hidden <= first:
            assert count == 0


def test_jobs_are_told_in_the_order_of_their_ends() -> None:
    cursor = Cursor.first(Look(START, (job(1, 0), job(2, 1), job(3, 2))))
    done = [job(n, n - 1, JobState.SUCCEEDED, 10 - n) for n in (1, 2, 3)]
    new, after = cursor.after(Look(START, tuple(done)))
    assert ids(new) == ["3", "2", "1"]
    assert after.after(Look(after.since, tuple(done)))[0] == ()


def test_jobs_that_had_ended_at_the_first_look_are_not_told() -> None:
    look = Look(START, (job(1, 0, JobState.FAILED, 3), job(2, 1)))
    assert Cursor.first(look).after(look)[0] == ()


def test_a_job_that_is_shown_twice_is_told_once_and_as_ended() -> None:
    cursor = Cursor.first(Look(START, ()))
    twice = (job(1, 0, JobState.SUCCEEDED, 5), job(1, 0))
    assert ids(cursor.after(Look(START, twice))[0]) == ["1"]


def test_a_list_that_begins_later_than_the_cursor_does_not_move_it() -> None:
    cursor = Cursor.first(Look(START, (job(1, 0),)))
    new, after = cursor.after(Look(START + 500 * MINUTE, (job(2, 600, JobState.SUCCEEDED, 700),)))
    assert ids(new) == ["2"]
    assert after.since == cursor.since
    assert ids(after.after(Look(START, (job(1, 0, JobState.SUCCEEDED, 800),)))[0]) == ["1"]


def test_the_cursor_forgets_what_ended_before_the_oldest_active_job() -> None:
    cursor = Cursor.first(Look(START, (job(1, 0),)))
    for n in range(2, 50):
        jobs = (job(n, n * 100, JobState.SUCCEEDED, n * 100), job(1000, n * 100 + 1))
        cursor = cursor.after(Look(cursor.since, jobs))[1]
    assert len(cursor.ended) > 10  # Job 1 holds it back, although the lists omit it.
    last = (job(1, 0, JobState.EXPIRED), job(1000, 9000, JobState.FAILED))
    cursor = cursor.after(Look(cursor.since, last))[1]
    assert len(cursor.ended) <= 1


@pytest.mark.parametrize(
    "stored", [None, {}, [], "x", {"since": 1, "ended": [], "active": {}}, {"since": "x"}]
)
def test_what_is_no_cursor_is_none(stored: object) -> None:
    assert Cursor.from_dict(stored) is None


def test_a_filter_lets_pass_what_it_names() -> None:
    model = "projects/1/locations/global/publishers/google/models/gemini-3.5-flash@001"
    labels = {"team": "search", "a": "b"}
    done = replace(job(1, 0, JobState.FAILED, 5), display_name="nightly-7", model=model, labels=labels)

    def passes(**values: object) -> bool:
        names = ("labels", "display_name_prefix", "model", "states")
        return JobFilter.of(*(values.get(name) for name in names)).matches(done)

    assert passes()
    assert passes(labels={"team": "search"})
    assert not passes(labels={"team": "ads"})
    assert not passes(labels={"team": "search", "other": ""})
    assert passes(display_name_prefix="nightly")
    assert not passes(display_name_prefix="ightly")
    assert passes(model="gemini-3.5-flash")
    assert passes(model="publishers/google/models/gemini-3.5-flash@001")
    assert not passes(model="gemini-3.5-flash@002")
    assert not passes(model="projects/1/locations/global/models/7")
    assert passes(states=["FAILED", "JOB_STATE_EXPIRED"])
    assert not passes(states=["SUCCEEDED"])


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("labels", ["team"]),
        ("display_name_prefix", 7),
        ("model", "a/b"),
        ("model", 7),
        ("states", "FAILED"),
        ("states", []),
        ("states", ["RUNNING"]),
        ("states", [["FAILED"]]),
    ],
)
def test_a_filter_that_cannot_match_is_refused(parameter: str, value: object) -> None:
    given = {**dict.fromkeys(("labels", "display_name_prefix", "model", "states")), parameter: value}
    with pytest.raises(InvalidParameterError) as error:
        JobFilter.of(**given)
    assert error.value.parameter == parameter


def test_a_label_that_cannot_match_is_named() -> None:
    with pytest.raises(InvalidParameterError) as error:
        JobFilter.of(labels={"team": 1}, display_name_prefix=None, model=None, states=None)
    assert error.value.parameter == "labels['team']"


def test_the_query_has_a_filter_that_google_documents() -> None:
    asked = look_parameters(START + timedelta(microseconds=1), has_mask=False)
    assert asked == {"filter": 'createTime>="2026-11-01T00:00:00Z"', "pageSize": 100}


def test_an_event_has_facts_and_no_input() -> None:
    payload = event_payload([replace(job(1, 0, JobState.SUCCEEDED, 5), labels={"team": "search"})])
    assert json.loads(json.dumps(payload)) == payload
    (told,) = payload["jobs"]
    assert told["job_name"] == "projects/p/locations/global/batchPredictionJobs/1"
    assert told["labels"] == {"team": "search"}
    assert "input_uris" not in told
