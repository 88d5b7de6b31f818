"""The event trigger in Airflow's own shared streams, against the emulator."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, Route
from airflow_gemini_batch.exceptions import AirflowVersionError, InvalidParameterError
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs.spec import JobSpec
from airflow_gemini_batch.triggers.job_events import GeminiBatchJobEventTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack

try:
    from airflow.triggers.shared_stream import SharedStreamManager
except ImportError:  # Airflow 2
    SharedStreamManager = None

needs_streams = pytest.mark.skipif(SharedStreamManager is None, reason="Airflow 2 has no event triggers")


@pytest.fixture
def create(stack: RunningStack, vertex: Emulator, bucket: str) -> Callable[..., str]:
    """Creates a job without input, which fails at its end; returns its name."""

    def make(pace: str = "milliseconds-300", *, display_name: str = "anybody", **labels: str) -> str:
        spec = JobSpec(
            project=stack.project,
            location="global",
            model="publishers/google/models/gemini-3.5-flash",
            input_uris=(f"gs://{bucket}/absent.jsonl",),
            output_uri=f"gs://{bucket}/out",
            display_name=display_name,
            labels={"emulator-pace": pace, **labels},
        )
        return str(GeminiBatchHook().create_job(spec).name)

    return make


class Store:
    """The state of an asset, as JSON; its writes may fail."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.fails = False

    async def aget(self, key: str, default: Any = None) -> Any:
        await asyncio.sleep(0)
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise OSError("no database")
        self.values[key] = json.dumps(value)


class Triggerer:
    """Runs event triggers as Airflow's triggerer does: its streams, and confirmations of stored events."""

    def __init__(self) -> None:
        self.streams = SharedStreamManager()
        self.fired: list[dict[str, Any]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, trigger: GeminiBatchJobEventTrigger, store: Store, *, stores_events: bool = True) -> None:
        number = len(self._tasks)
        trigger.asset_state_store = SimpleNamespace(_by_name={"jobs": store})
        self._tasks.append(asyncio.create_task(self._run(trigger, number, stores_events)))

    async def _run(self, trigger: GeminiBatchJobEventTrigger, number: int, stores_events: bool) -> None:
        key = trigger.shared_stream_key()
        stream = self.streams.subscribe(trigger_id=number, trigger=trigger, key=key)
        async for event in trigger.filter_shared_stream(stream):
            json.dumps(event.payload)
            self.fired += [{"trigger": number, **job} for job in event.payload["jobs"]]
            seq = self.streams.bind_pending_event(trigger_id=number, key=key)
            if seq is not None and stores_events:
                self.streams.confirm_persisted([seq])

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.streams.stop_all()

    def names(self, number: int | None = None) -> list[str]:
        return [each["job_name"] for each in self.fired if number in (None, each["trigger"])]


def trigger(**more: Any) -> GeminiBatchJobEventTrigger:
    return GeminiBatchJobEventTrigger(**{"location": "global", "poll_interval": 0.2, **more})


def lists(vertex: Emulator) -> int:
    return sum(request.method == "GET" and "filter" in request.query for request in vertex.requests)


async def watched(store: Store, **more: Any) -> Triggerer:
    """A triggerer whose trigger has looked for the first time."""
    running = Triggerer()
    running.start(trigger(**more), store)
    await running.until(lambda: store.values)
    return running


@needs_streams
def test_each_job_that_ends_is_in_one_event(vertex: Emulator, create: Any) -> None:
    async def run() -> tuple[list[str], list[str], list[dict[str, Any]]]:
        before = create("immediate")
        store = Store()
        running = await watched(store)
        names = [await asyncio.to_thread(create, team="search") for _ in range(3)]
        await running.until(lambda: len(running.fired) >= 3)
        seen = lists(vertex)
        await running.until(lambda: lists(vertex) >= seen + 3)
        await running.kill()
        assert before not in running.names()
        return names, running.names(), running.fired

    names, fired, events = asyncio.run(run())
    assert sorted(fired) == sorted(names)
    assert {each["state"] for each in events} == {"JOB_STATE_FAILED"}
    assert {each["labels"]["team"] for each in events} == {"search"}
    assert all(each["end_time"] and each["display_name"] == "anybody" for each in events)


@needs_streams
def test_jobs_that_end_while_no_triggerer_runs_fire_when_one_is_back(vertex: Emulator, create: Any) -> None:
    async def run() -> None:
        store = Store()
        first = await watched(store)
        told = create()
        await first.until(lambda: first.fired)
        # The cursor is stored when the event is.
        await first.until(lambda: told.rpartition("/")[2] in json.dumps(store.values))
        await first.kill()
        missed = [create("immediate") for _ in range(2)]
        second = Triggerer()
        second.start(trigger(), store)
        await second.until(lambda: len(second.fired) >= 2)
        seen = lists(vertex)
        await second.until(lambda: lists(vertex) >= seen + 3)
        await second.kill()
        assert first.names() == [told]
        assert sorted(second.names()) == sorted(missed)

    asyncio.run(run())


@needs_streams
@pytest.mark.parametrize("lost", ["event", "cursor"])
def test_what_a_killed_triggerer_did_not_store_fires_again(vertex: Emulator, create: Any, lost: str) -> None:
    async def run() -> None:
        store = Store()
        first = await watched(store)
        await first.kill()
        dying = Triggerer()
        store.fails = lost == "cursor"
        dying.start(trigger(), store, stores_events=lost != "event")
        name = create()
        await dying.until(lambda: dying.fired)
        seen = lists(vertex)
        await dying.until(lambda: lists(vertex) >= seen + 2)
        await dying.kill()
        store.fails = False
        second = Triggerer()
        second.start(trigger(), store)
        await second.until(lambda: second.fired)
        await second.kill()
        assert dying.names() == second.names() == [name]

    asyncio.run(run())


@needs_streams
def test_triggers_of_a_place_share_a_list_and_filter_it(vertex: Emulator, create: Any) -> None:
    async def run() -> None:
        running = Triggerer()
        stores = [Store() for _ in range(3)]
        wanted = [{"labels": {"team": "search"}}, {"display_name_prefix": "night"}, {"states": ["SUCCEEDED"]}]
        for store, values in zip(stores, wanted, strict=True):
            running.start(trigger(**values), store)
        await running.until(lambda: all(store.values for store in stores))
        names = [create(team="search"), create(display_name="nightly"), create(team="ads")]
        await running.until(lambda: len(running.fired) >= 2)
        seen = lists(vertex)
        began = asyncio.get_running_loop().time()
        await running.until(lambda: lists(vertex) >= seen + 5)
        took = asyncio.get_running_loop().time() - began
        await running.kill()
        assert [running.names(number) for number in range(3)] == [[names[0]], [names[1]], []]
        assert 5 / took < 8  # Three lists each interval would be 15 a second.

    asyncio.run(run())


@needs_streams
def test_an_outage_delays_events_and_loses_none(
    vertex: Emulator, create: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        store = Store()
        running = await watched(store)
        vertex.faults = FaultPlan(
            calls=[CallFault(route=Route.LIST, kind=CallFaultKind.STATUS, status=503, nth=(1, 2))]
        )
        name = create("immediate")
        await running.until(lambda: running.fired)
        await running.kill()
        assert running.names() == [name]

    asyncio.run(run())
    assert sum("cannot be listed" in record.message for record in caplog.records) == 1


@needs_streams
def test_where_long_pages_are_refused_short_ones_are_read(vertex: Emulator, create: Any) -> None:
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.LIST, kind=CallFaultKind.STATUS, status=400, nth=(1,))]
    )

    async def run() -> None:
        running = await watched(Store())
        name = create("immediate")
        await running.until(lambda: running.fired)
        await running.kill()
        assert running.names() == [name]

    asyncio.run(run())
    assert "readMask" not in [each for each in vertex.requests if "filter" in each.query][-1].query


@needs_streams
def test_without_shared_streams_a_trigger_looks_alone(vertex: Emulator, create: Any) -> None:
    async def run() -> str:
        events = trigger().run()
        fired = asyncio.ensure_future(anext(events))
        await Triggerer().until(lambda: lists(vertex) >= 2)
        name = await asyncio.to_thread(create, "milliseconds-600")
        event = await asyncio.wait_for(fired, 30)
        with suppress(RuntimeError):
            await events.aclose()
        assert [job["job_name"] for job in event.payload["jobs"]] == [name]
        return name

    assert asyncio.run(run())


@needs_streams
def test_a_trigger_is_recreated_from_what_it_serializes() -> None:
    import importlib

    made = trigger(labels={"b": "1", "a": "2"}, states=["FAILED"], impersonation_chain=("x", "y"), model="m")
    path, values = made.serialize()
    assert json.loads(json.dumps(values)) == values
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**values)
    assert again.serialize() == made.serialize()
    assert again.shared_stream_key() == made.shared_stream_key()
    assert trigger(labels={"a": "2", "b": "1"}, states=["FAILED"], model="m").cursor_key == made.cursor_key
    assert trigger(labels={"a": "2"}).cursor_key != made.cursor_key
    assert trigger(poll_interval=9).cursor_key == trigger().cursor_key


@needs_streams
@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ({"location": None}, "location"),
        ({"location": "a/b"}, "location"),
        ({"location": "globl"}, "location"),
        ({"labels": {"Team": "x"}}, "labels"),
        ({"labels": {"team": "*"}}, "labels['team']"),
        ({"project_id": ""}, "project_id"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"states": ["RUNNING"]}, "states"),
    ],
)
def test_a_value_that_cannot_work_is_refused(
    values: dict[str, Any], parameter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_LOCATION", raising=False)
    with pytest.raises(InvalidParameterError) as error:
        trigger(**values)
    assert error.value.parameter == parameter


@pytest.mark.skipif(SharedStreamManager is not None, reason="it works on Airflow 3")
def test_airflow_2_is_told_what_to_use_instead() -> None:
    with pytest.raises(AirflowVersionError, match=r"needs Airflow 3\.0 or later; in Airflow 2"):
        trigger()
