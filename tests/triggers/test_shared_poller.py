"""Triggers of one process share their polls: what they send, at the wire."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, Route
from airflow_gemini_batch.hooks import gemini_batch as hooks
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs.identity import RUN_LABEL
from airflow_gemini_batch.jobs.spec import JobSpec
from airflow_gemini_batch.triggers import shared_poller
from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger
from tests.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack

SUCCEEDED = "JOB_STATE_SUCCEEDED"


@pytest.fixture
def create(stack: RunningStack, vertex: Emulator, bucket: str) -> Callable[..., str]:
    """Creates a job without input, which fails at its end; returns its name."""

    def make(pace: str = "reads-100000", *, is_own: bool = True, location: str = "global") -> str:
        labels = {"emulator-pace": pace, **({RUN_LABEL: "a" * 24} if is_own else {})}
        spec = JobSpec(
            project=stack.project,
            location=location,
            model="publishers/google/models/gemini-3.5-flash",
            input_uris=(f"gs://{bucket}/absent.jsonl",),
            output_uri=f"gs://{bucket}/out",
            display_name="waited",
            labels=labels,
        )
        return str(GeminiBatchHook().create_job(spec).name)

    return make


def trigger(name: str, poll_interval: float = 0.3, **more: Any) -> GeminiBatchJobTrigger:
    return GeminiBatchJobTrigger(job_name=name, poll_interval=poll_interval, **more)


async def event(name: str, poll_interval: float = 0.3, **more: Any) -> dict[str, Any]:
    async for fired in trigger(name, poll_interval, **more).run():
        return dict(fired.payload)
    raise AssertionError("the trigger fired nothing")


def reads(vertex: Emulator) -> Counter[str]:
    """Lists and gets of jobs."""
    return Counter(
        "get" if "batchPredictionJobs/" in request.path else "list"
        for request in vertex.requests
        if request.method == "GET" and "batchPredictionJobs" in request.path
    )


def waits(*names: str, seconds: float = 0.0, so_that: Callable[[], object] = lambda: True) -> list[Any]:
    """Let triggers wait for that long, and until something is so; then cancel them."""

    async def run() -> list[Any]:
        tasks = [asyncio.create_task(event(name)) for name in names]
        await asyncio.sleep(seconds)
        await until(so_that)
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run())


def test_a_single_trigger_reads_its_job_by_name(vertex: Emulator, create: Any) -> None:
    waits(create(), so_that=lambda: reads(vertex)["get"] >= 2)
    assert reads(vertex)["list"] == 0


def test_thirty_triggers_share_one_list_an_interval(vertex: Emulator, create: Any) -> None:
    waits(*(create() for _ in range(30)), seconds=2.0)
    assert reads(vertex)["list"] <= 10
    assert reads(vertex)["get"] <= 30
    lists = [request for request in vertex.requests if request.query.get("filter")]
    assert all(request.status == 200 for request in lists)
    assert all(request.query["readMask"].startswith("name,state") for request in lists)


def test_all_triggers_see_their_jobs_end(vertex: Emulator, create: Any) -> None:
    names = [create("milliseconds-400", is_own=number % 3 > 0) for number in range(20)]

    async def run() -> list[dict[str, Any]]:
        return list(await asyncio.wait_for(asyncio.gather(*map(event, names)), 30))

    events = asyncio.run(run())
    assert [found["job_name"] for found in events] == names
    assert {found["outcome"] for found in events} == {"ended"}
    states = {job["name"]: job["state"] for job in vertex.jobs}
    assert {found["job_name"]: found["state"] for found in events} == states


def test_a_list_that_hides_jobs_ends_no_wait(vertex: Emulator, create: Any) -> None:
    names = [create() for _ in range(10)]
    vertex.faults = FaultPlan(calls=[CallFault(route=Route.LIST, kind=CallFaultKind.LAG, seconds=600)])
    found = waits(*names, so_that=lambda: reads(vertex)["get"] >= 20)
    assert all(isinstance(each, asyncio.CancelledError) for each in found)


@pytest.mark.parametrize("status", [400, 403, 501])
def test_where_lists_are_refused_jobs_are_read_by_name(
    vertex: Emulator, create: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    names = [create("milliseconds-300") for _ in range(5)]
    vertex.faults = FaultPlan(calls=[CallFault(route=Route.LIST, kind=CallFaultKind.STATUS, status=status)])

    async def run() -> list[dict[str, Any]]:
        return list(await asyncio.wait_for(asyncio.gather(*map(event, names)), 30))

    assert {found["outcome"] for found in asyncio.run(run())} == {"ended"}
    assert reads(vertex)["list"] <= 3
    if status != 501:
        assert sum("read one by one" in record.message for record in caplog.records) == 1


def test_an_outage_is_logged_by_each_trigger_and_sends_few_requests(
    vertex: Emulator, create: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [create() for _ in range(20)]
    vertex.faults = FaultPlan(
        calls=[
            CallFault(route=route, kind=CallFaultKind.STATUS, status=503) for route in (Route.LIST, Route.GET)
        ]
    )
    logged: list[str] = []
    monkeypatch.setattr(
        GeminiBatchJobTrigger, "log", SimpleNamespace(log=lambda _, message: logged.append(message))
    )

    def told() -> int:
        return sum("Polling continues until the deadline" in message for message in logged)

    begun = time.monotonic()
    waits(*names, seconds=2.0, so_that=lambda: told() >= 20)
    assert told() == 20
    # One for each step, 0.3 s apart; those that were on their way when the first failed come on top.
    assert sum(reads(vertex).values()) <= (time.monotonic() - begun) / 0.3 + 10


def test_late_joiners_and_leavers_share_the_poller(vertex: Emulator, create: Any) -> None:
    names = [create() for _ in range(6)] + [create("milliseconds-500")]

    async def run() -> None:
        stays = asyncio.create_task(event(names[0]))
        leavers = [asyncio.create_task(event(name)) for name in names[1:6]]
        await asyncio.sleep(0.5)
        late = asyncio.create_task(event(names[6]))
        await asyncio.sleep(0.2)
        for task in leavers:
            task.cancel()
        assert (await asyncio.wait_for(late, 20))["outcome"] == "ended"
        assert not stays.done()
        assert len(shared_poller._pollers[asyncio.get_running_loop()]) == 1
        stays.cancel()
        with suppress(asyncio.CancelledError):
            await stays
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "gemini-batch-poller"]

    asyncio.run(run())


def test_two_triggers_of_the_same_job_both_fire(create: Any) -> None:
    name = create("milliseconds-300")

    async def run() -> list[dict[str, Any]]:
        return list(await asyncio.wait_for(asyncio.gather(event(name), event(name)), 20))

    first, second = asyncio.run(run())
    assert first["outcome"] == second["outcome"] == "ended"


def test_event_loops_do_not_share_a_poller(create: Any) -> None:
    name = create("milliseconds-500")

    async def both() -> list[dict[str, Any]]:
        loops = [asyncio.to_thread(asyncio.run, event(name)) for _ in range(2)]
        return list(await asyncio.wait_for(asyncio.gather(*loops), 30))

    assert [found["outcome"] for found in asyncio.run(both())] == ["ended", "ended"]


def test_a_poller_without_waiters_holds_nothing_of_its_event_loop(create: Any) -> None:
    waits(create(), create(), seconds=0.3)
    # Threads of asgiref keep the loop that they last worked for, so it may still be there.
    for pollers in shared_poller._pollers.values():
        for poller in pollers.values():
            assert not poller._waiters
            assert poller._task is poller._wake is None


def test_a_shutdown_does_not_wait_for_a_request_that_stalls(vertex: Emulator, create: Any) -> None:
    names = [create() for _ in range(3)]
    vertex.faults = FaultPlan(
        calls=[
            CallFault(route=route, kind=CallFaultKind.STALL, seconds=60) for route in (Route.LIST, Route.GET)
        ]
    )

    async def run() -> float:
        tasks = [asyncio.create_task(event(name)) for name in names]
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return time.monotonic() - begun

    assert asyncio.run(run()) < 1


def test_a_poller_that_is_cancelled_ends_its_triggers_and_starts_again(vertex: Emulator, create: Any) -> None:
    name = create()

    async def run() -> None:
        waiting = asyncio.create_task(event(name))
        await until(lambda: reads(vertex))
        (poller,) = [task for task in asyncio.all_tasks() if task.get_name() == "gemini-batch-poller"]
        poller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 5)
        again, seen = asyncio.create_task(event(name)), reads(vertex).total()
        await until(lambda: reads(vertex).total() > seen)
        assert not again.done()
        again.cancel()

    asyncio.run(run())


def test_the_deadline_of_one_does_not_end_the_others(create: Any) -> None:
    from datetime import UTC, datetime, timedelta

    names = [create() for _ in range(4)]

    async def run() -> None:
        deadline = (datetime.now(UTC) + timedelta(seconds=0.6)).isoformat()
        others = [asyncio.create_task(event(name)) for name in names[1:]]
        found = await asyncio.wait_for(event(names[0], deadline=deadline), 10)
        assert found["outcome"] == "timeout"
        assert not any(task.done() for task in others)
        for task in others:
            task.cancel()

    asyncio.run(run())


def test_a_job_that_is_gone_ends_only_its_own_wait(create: Any) -> None:
    there, gone = [create() for _ in range(3)], create().rpartition("/")[0] + "/1"

    async def run() -> None:
        others = [asyncio.create_task(event(name)) for name in there]
        found = await asyncio.wait_for(event(gone), 20)
        assert found["outcome"] == "error"
        assert "404" in found["message"]
        assert not any(task.done() for task in others)
        for task in others:
            task.cancel()

    asyncio.run(run())


def test_waiters_never_block_the_event_loop(vertex: Emulator, create: Any) -> None:
    hooks._clients.clear()
    names = [create() for _ in range(50)]
    longest = 0.0

    async def run() -> None:
        nonlocal longest
        tasks = [asyncio.create_task(event(name)) for name in names]
        await asyncio.sleep(0.5)
        begun = time.thread_time()
        for _ in range(200):
            await asyncio.sleep(0.005)
            # The processor time of this thread: other tests may keep the machine busy.
            longest, begun = max(longest, time.thread_time() - begun), time.thread_time()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert longest < 0.02
