"""Decisions about the polls of many jobs, against a service that is only a list of jobs and a clock."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.emulator.list_filter import compile_filter
from airflow_gemini_batch.jobs.identity import RUN_LABEL
from airflow_gemini_batch.jobs.shared_polls import (
    GETS_AT_ONCE,
    REQUESTS_PER_MINUTE,
    Gets,
    ListQuery,
    ListSize,
    Pause,
    RequestBudget,
    SharedPolls,
)

START = 1_800_000_000.0
REQUEST_SECONDS = 0.1


@dataclass
class Job:
    """A job of the service, and what its waiter knows of it."""

    created: float
    ends: float = math.inf
    is_own: bool = True
    interval: float = 60.0
    joined: float | None = None
    first_read: float | None = None
    last_read: float | None = None
    reported: float | None = None
    latest: float = 0.0

    def state(self, now: float) -> JobState:
        return JobState.SUCCEEDED if now >= self.ends else JobState.RUNNING


@dataclass
class World:
    """Runs the decisions: each request takes a tenth of a second, and shows the jobs as they are then.

    :param jobs: by ID, in the order in which their waiters join
    """

    jobs: dict[str, Job]
    page_size: int = 100
    hides: float = 0.0
    truncates: float = 0.0
    refuses_lists: bool = False
    fails_lists: bool = False
    down: tuple[float, float] = (0.0, 0.0)
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    now: float = START
    looked_at: int = 0
    gets: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    failures: list[float] = field(default_factory=list)
    queries: list[ListQuery] = field(default_factory=list)
    polls: SharedPolls = field(default_factory=SharedPolls)
    budget: RequestBudget = field(default_factory=RequestBudget)

    @property
    def requests(self) -> list[float]:
        return sorted([*self.gets, *self.pages])

    def run(self, seconds: float) -> World:
        until = self.now + seconds
        while self.now < until:
            self._join()
            step = self.polls.next_step(self.now)
            if isinstance(step, Pause):
                joins = [job.joined for job in [*self.jobs.values()][self.looked_at :][:1] if job.joined]
                self.now = min([until, *joins, *([step.until] if step.until else [])])
            elif isinstance(step, Gets):
                assert len(step.job_ids) <= GETS_AT_ONCE
                self._get(step.job_ids)
            else:
                self.queries.append(step)
                self._list(step)
        return self

    def _join(self) -> None:
        for job_id in [*self.jobs][self.looked_at :]:
            job = self.jobs[job_id]
            if job.joined is not None and job.joined > self.now:
                return
            self.looked_at += 1
            if job.joined is not None:
                job.latest = self.now
                self.polls.join(job_id, job.interval, self.now)
                self.polls.ask(job_id, 0.0, self.now)

    def _request(self, kind: list[float]) -> bool:
        self.now += self.budget.wait(self.now)
        self.budget.spend(self.now)
        kind.append(self.now)
        self.now += REQUEST_SECONDS
        self._join()
        if self.down[0] <= self.now < self.down[1]:
            self.failures.append(self.now)
            return False
        return True

    def _get(self, job_ids: tuple[str, ...]) -> None:
        for job_id in job_ids:
            if not self._request(self.gets):
                self._fail()
                return
            self._show(job_id)

    def _list(self, query: ListQuery) -> None:
        is_shown = compile_filter(str(query.parameters["filter"]))
        newest_first = sorted(self.jobs.items(), key=lambda each: -each[1].created)
        found = [job_id for job_id, job in newest_first if is_shown(self._resource(job))]
        found = [job_id for job_id in found if self.dice.random() >= self.hides]
        if self.dice.random() < self.truncates:
            found = found[: len(found) // 2]
        parts = [found[n : n + self.page_size] for n in range(0, len(found), self.page_size)] or [[]]
        shown: set[str] = set()
        for number, part in enumerate(parts, 1):
            if not self._request(self.pages) or self.fails_lists:
                self._fail(is_list=True)
                return
            if self.refuses_lists:
                self.polls.list_was_refused(self.now, is_bad_request=True)
                return
            for job_id in part:
                if self._show(job_id, query):
                    shown.add(job_id)
            size = ListSize(number * self.page_size, self.page_size)
            if number < len(parts) and number >= query.max_pages:
                self.polls.was_too_long(query, size, self.now)
                return
        size = ListSize(len(found), self.page_size if len(parts) > 1 else 0)
        self.polls.was_listed(query, shown, size, self.now)

    def _resource(self, job: Job) -> dict[str, object]:
        created = f"{datetime.fromtimestamp(job.created, UTC):%Y-%m-%dT%H:%M:%SZ}"
        labels = {RUN_LABEL: "1"} if job.is_own else {}
        return {"labels": labels, "state": job.state(self.now).value, "createTime": created}

    def _show(self, job_id: str, query: ListQuery | None = None) -> bool:
        job = self.jobs[job_id]
        if job.latest == 0 or job.reported:
            return False
        created = datetime.fromtimestamp(job.created, UTC)
        labels = {RUN_LABEL: "1"} if job.is_own else {}
        state = job.state(self.now)
        read = BatchJob(JobName("p", "l", job_id), state, create_time=created, labels=labels)
        self.polls.was_read(read, self.now, query)
        job.first_read = job.first_read or self.now
        job.last_read = self.now
        if state.is_terminal:
            job.reported = self.now
            self.polls.leave(job_id)
        else:
            self._ask_again(job_id, min(2 + (self.now - job.first_read) / 2, job.interval))
        return True

    def _ask_again(self, job_id: str, wait: float) -> None:
        job = self.jobs[job_id]
        wait *= random.Random(f"{job_id}{self.now}").uniform(0.9, 1.1)
        job.latest = max(job.latest, self.now + wait)
        self.polls.ask(job_id, wait, self.now)

    def _fail(self, *, is_list: bool = False) -> None:
        self.polls.has_failed(self.now, is_list=is_list)
        for job_id, job in self.jobs.items():
            if job.latest and not job.reported and self.polls.is_due_soon(job_id, self.now):
                self.polls.was_told(job_id)
                self._ask_again(job_id, 5.0)


def many(count: int, *, joined: float = START, **more: object) -> dict[str, Job]:
    """Jobs that were created an hour before, one a second."""
    return {str(n): Job(START - 3600 - n, joined=joined, **more) for n in range(count)}  # type: ignore[arg-type]


def rate(world: World, first: float, last: float) -> float:
    """Requests a minute between two moments, in seconds after the start."""
    inside = [t for t in world.requests if START + first <= t < START + last]
    return len(inside) * 60 / (last - first)


def variant(*values: float) -> Any:
    return pytest.param(*values, marks=pytest.mark.variant)


def test_a_single_waiter_is_never_listed() -> None:
    world = World(many(1)).run(3600)
    assert not world.pages
    assert len(world.gets) < 80


@pytest.mark.parametrize(("waiters", "at_most"), [(2, 1.3), (100, 1.3), variant(1000, 15), (5000, 60)])
def test_one_list_an_interval_serves_all(waiters: int, at_most: float) -> None:
    world = World(many(waiters)).run(720)
    assert rate(world, 240, 720) <= at_most


@pytest.mark.parametrize("waiters", [5, 50, variant(500)])
def test_waiters_that_came_one_after_the_other_are_brought_together(waiters: int) -> None:
    jobs = {str(n): Job(START - 60, joined=START + n * 60 / waiters) for n in range(waiters)}
    world = World(jobs).run(1200)
    assert rate(world, 600, 1200) <= 1.3 * math.ceil(waiters / 100)


def test_a_late_joiner_among_thousands_costs_a_few_requests() -> None:
    jobs = many(2000)
    world = World(jobs).run(300)
    jobs["late"] = Job(world.now - 3, joined=world.now + 1)
    before = len(world.requests)
    world.run(300)
    assert len(world.requests) - before < 5.6 * 20 + 50


def test_hundreds_that_defer_at_once_share_short_lists() -> None:
    jobs = many(2000)
    world = World(jobs).run(300)
    before = len(world.requests)
    jobs.update({f"new {n}": Job(world.now - 20 + n / 25, joined=world.now + n / 100) for n in range(500)})
    world.run(180)
    usual = 3.4 * 25
    assert len(world.requests) - before < usual + 150
    assert max(job.last_read or 0 for job in jobs.values()) > world.now - 70


def test_waiters_with_several_intervals_share_the_lists_of_the_shortest() -> None:
    jobs = many(150, interval=300.0)
    jobs["hasty"] = Job(START - 60, joined=START, interval=30.0)
    world = World(jobs).run(1800)
    # Two pages, or the job that is in a hurry alone.
    assert rate(world, 900, 1800) <= 3.2


def test_jobs_of_others_are_listed_without_the_label_when_that_is_cheaper() -> None:
    world = World(
        {**many(300), **{f"other {n}": Job(START - 60, is_own=False, joined=START) for n in range(200)}}
    )
    world.run(1200)
    assert rate(world, 600, 1200) <= 1.3 * 5
    assert any(not query.is_own for query in world.queries)


def test_a_few_waiters_in_a_crowded_project_are_read_one_by_one() -> None:
    strangers = {f"stranger {n}": Job(START - 600 - n) for n in range(1000)}
    world = World({**many(5), **strangers}).run(900)
    assert rate(world, 300, 900) <= 7


def test_many_that_end_at_once_are_confirmed_by_a_list_of_ended_jobs() -> None:
    world = World(many(500, ends=START + 700)).run(800)
    assert all(job.reported for job in world.jobs.values())
    assert len([t for t in world.gets if t > START + 600]) < 10
    assert any(not query.is_active for query in world.queries)


def test_a_list_that_is_refused_twice_is_not_used_and_waiting_goes_on() -> None:
    world = World(many(100, ends=START + 700), refuses_lists=True).run(900)
    assert all(job.reported for job in world.jobs.values())
    assert [query.page_size for query in world.queries] == [1000, 100]
    assert [query.has_mask for query in world.queries] == [True, False]


def test_where_only_lists_fail_jobs_are_read_one_by_one() -> None:
    world = World(many(50, ends=START + 700), fails_lists=True).run(900)
    assert all(job.reported for job in world.jobs.values())


def test_a_list_is_tried_again_after_a_quarter_of_an_hour() -> None:
    world = World(many(100), refuses_lists=True).run(600)
    world.refuses_lists = False
    world.run(1200)
    assert rate(world, 1200, 1800) <= 1.3


def test_an_outage_is_one_failing_request_for_each_step_of_the_back_off() -> None:
    world = World(many(1000), down=(START + 600, START + 1800)).run(1800)
    # 5, 10, 20, 40 seconds, and then every minute; the first failure may be in a batch.
    assert len(world.failures) <= 4 + 20
    world.run(120)
    assert all(job.last_read and job.last_read > START + 1800 for job in world.jobs.values())


def test_those_who_join_in_an_outage_send_no_requests() -> None:
    jobs = many(10)
    jobs.update({f"new {n}": Job(START + 600, joined=START + 620 + n) for n in range(500)})
    world = World(jobs, down=(START + 600, START + 1200)).run(1200)
    assert len(world.failures) <= 4 + 10


@pytest.mark.parametrize("waiters", [300, variant(2000)])
def test_no_minute_has_more_requests_than_the_budget(waiters: int) -> None:
    world = World(many(waiters, interval=10.0), refuses_lists=waiters == 300).run(600)
    times = world.requests
    assert len(times) > 4 * REQUESTS_PER_MINUTE
    for first, last in zip(times, times[REQUESTS_PER_MINUTE:], strict=False):
        assert last - first >= 60


def test_a_job_that_lists_keep_omitting_is_read_one_by_one() -> None:
    jobs = many(100)
    world = World(jobs)
    filter_of = world._resource
    hidden = jobs["7"]
    world._resource = lambda job: {**filter_of(job), **({"labels": {}} if job is hidden else {})}  # type: ignore[method-assign]
    world.run(1800)
    assert rate(world, 600, 1800) <= 2 * 1.3
    assert hidden.last_read
    assert hidden.last_read > world.now - 70


@pytest.mark.parametrize("seed", [*range(4), *map(variant, range(4, 12))])
def test_nobody_is_late_and_nothing_is_concluded_unseen(seed: int) -> None:
    """Random jobs, joins, ends and intervals; lists that hide jobs or are cut."""
    dice = random.Random(seed)
    jobs: dict[str, Job] = {}
    for number in range(dice.choice([1, 3, 30, 150])):
        created = START + dice.uniform(-3600, 600)
        jobs[f"job {number}"] = Job(
            created,
            ends=dice.choice([math.inf, max(created, START) + dice.uniform(0, 1500)]),
            is_own=dice.random() < 0.8,
            interval=dice.choice([30.0, 60.0, 120.0]),
            joined=max(created, START) + dice.uniform(0, 300),
        )
    jobs = dict(sorted(jobs.items(), key=lambda each: each[1].joined or 0))
    for number in range(dice.choice([0, 0, 400])):
        jobs[f"stranger {number}"] = Job(START - dice.uniform(0, 7200), is_own=dice.random() < 0.5)
    hides, truncates = dice.choice([(0.0, 0.0), (0.05, 0.0), (0.0, 0.3)])
    world = World(jobs, hides=hides, truncates=truncates, dice=dice)
    for _ in range(80):
        world.run(20)
        # The first polls of many, and lists that are cut, may use up the budget.
        recent = [at for at in world.requests if at > world.now - 90]
        busy = 60 if len(recent) >= REQUESTS_PER_MINUTE else 0
        for job_id, job in jobs.items():
            if job.joined is None or job.joined > world.now - 1:
                continue
            if job.reported:
                assert job.reported >= job.ends, job_id
                continue
            # A poll may wait for the requests before it, and for the budget.
            assert world.now - job.latest < 20 + busy, (job_id, world.now - START)
            if job.ends < world.now:
                seen_from = max(job.ends, job.joined)
                assert world.now - seen_from < 1.1 * job.interval + 20 + busy, job_id


def test_the_filter_has_only_documented_forms() -> None:
    world = World({**many(3), **{f"o{n}": Job(START - 9, is_own=False, joined=START) for n in range(9)}})
    world.run(400)
    text = {str(query.parameters["filter"]) for query in world.queries}
    assert text
    for each in text:
        for term in each.split(" AND "):
            assert term.startswith((f"labels.{RUN_LABEL}:*", 'state!="JOB_STATE_', 'createTime>="2'))


def test_the_budget_counts_any_minute() -> None:
    budget = RequestBudget(limit=3)
    for now in (0.0, 10.0, 20.0):
        assert budget.wait(now) == 0
        budget.spend(now)
    assert budget.wait(25.0) == 35
    assert budget.wait(60.0) == 0
    budget.spend(60.0)
    assert budget.wait(61.0) == 9


def test_many_jobs_of_others_are_found_by_a_list_at_once() -> None:
    """Own lists do not show them; that they are others' is learnt from one list, not from a read of each."""
    jobs = {f"j{n}": Job(START - 60, is_own=False, joined=START, interval=3.0) for n in range(150)}
    world = World(jobs).run(30)
    assert len(world.gets) <= GETS_AT_ONCE
    assert all(job.first_read is not None for job in jobs.values())
