"""Random plans between operators and service: nothing is paid for twice, and every error is explained."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS, Route
from airflow_gemini_batch.hooks import gemini_batch as hook_module
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from tests.measure import made_again, meddled, overpaid
from tests.task_instance import TaskInstance
from tests.wire import Refuse, watched

from .conftest import put_input
from .plans import Event, Story, for_all, seeds, stories
from .tasks import (
    Task,
    TaskFailedError,
    accepted,
    bill,
    cancel_by_hand,
    cancel_requests,
    labels,
    run_two_tries,
    settle,
)

if TYPE_CHECKING:
    from google.cloud import storage

    from airflow_gemini_batch.emulator.faults.plan import FaultPlan
    from airflow_gemini_batch.emulator.server import Emulator
    from tests.measure import Charge
    from tests.wire import Call


def submit_task(submit_args: dict[str, Any], name: str = "submit") -> Task:
    args = {**submit_args, "labels": labels(name, pace="reads-1")}
    return Task(lambda: GeminiBatchSubmitOperator(**args), TaskInstance(run_id=uuid.uuid4().hex))


def sensor_task(name: str, submitted: Task, on_incomplete: str = "continue") -> Task:
    def make() -> GeminiBatchJobSensor:
        return GeminiBatchJobSensor(
            task_id="wait",
            job_name=name,
            on_incomplete=on_incomplete,  # type: ignore[arg-type]
            poll_interval=0.005,
            timeout=30,
        )

    return Task(make, TaskInstance("wait", submitted.ti.run_id))


def begin(vertex: Emulator, plan: FaultPlan) -> None:
    vertex.clear()
    vertex.faults = plan
    if any(fault.route is Route.TOKEN for fault in plan.calls):
        hook_module._clients.clear()


class Run:
    """Plays a story: the task run and, if there is one, its namesake in another installation."""

    def __init__(
        self, story: Story, vertex: Emulator, submit_args: dict[str, Any], client: storage.Client, bucket: str
    ) -> None:
        self.story, self.vertex, self.client, self.bucket = story, vertex, client, bucket
        self.args = submit_args
        self.object = f"{uuid.uuid4().hex}.jsonl"
        self.versions = 0
        self.run_id = uuid.uuid4().hex
        self.token = story.token
        self.by_hand: list[str] = []
        self.unwanted: list[str] = []
        self.remade: list[str] = []
        self.before: list[Charge] = []
        self.asked: Counter[str] = Counter()
        self.attached: dict[str, list[str]] = {"prod": [], "dev": []}
        self.cancelled: dict[str, list[str]] = {"prod": [], "dev": []}
        self.tasks = {"prod": self.task("prod")}
        self.write_input()
        self.ask("prod")

    def task(self, installation: str) -> Task:
        store: dict[str, Any] | None = _Store() if self.story.remembers else None
        ti = TaskInstance(run_id=self.run_id)
        return Task(lambda: self.operator(installation), ti, store, installation=installation)

    def operator(self, installation: str) -> GeminiBatchSubmitOperator:
        story = self.story
        more = accepted(GeminiBatchSubmitOperator, on_incomplete=story.on_incomplete)
        if self.token:
            more["force_new"] = self.token
        return GeminiBatchSubmitOperator(
            **{
                **self.args,
                "input_uri": f"gs://{self.bucket}/{self.object}",
                "labels": labels(installation, installation, f"reads-{story.pace}"),
                "wait_for_completion": story.waits,
                "poll_interval": 0.005,
                **more,
            }
        )

    def write_input(self) -> None:
        """Write an input that differs from the last one, in the same number of bytes."""
        self.versions += 1
        self.put_input()

    def put_input(self) -> None:
        """Write the last input, again if it is there."""
        put_input(self.client, self.bucket, self.story.rows, self.object, f"Hello{self.versions}")

    def ask(self, *installations: str) -> None:
        self.want_again()
        self.asked.update(dict.fromkeys(installations, self.story.rows))

    def play(self) -> None:
        if self.story.first is Event.CANCELLED and self.story.waits:
            self.tasks["prod"].while_deferred = self.cancel_by_hand
        self.run("prod", self.story.first)
        if self.story.first is Event.CANCELLED:
            self.happen(Event.CANCELLED)
        for event in self.story.events:
            self.happen(event)
        self.vertex.faults = NO_FAULTS

    def change_input(self, event: Event) -> None:
        blob = self.client.bucket(self.bucket).get_blob(self.object)
        match event:
            case Event.TOUCHED:
                blob.metadata = {"touched": str(self.versions)}
                blob.patch()
            case Event.MOVED:
                blob.update_storage_class("NEARLINE")
            case Event.REWRITTEN:
                self.write_input()
                self.ask(*self.tasks)
            case Event.DELETED:
                blob.delete()

    def happen(self, event: Event) -> None:
        self.change_input(event)
        match event:
            case Event.CANCELLED:
                self.cancel_by_hand()
            case Event.NEW_TOKEN:
                self.token = f"token-{len(self.vertex.jobs)}-{self.token}"[:40]
                self.ask(*self.tasks)
            case Event.NEIGHBOUR if "dev" not in self.tasks:
                self.tasks["dev"] = self.task("dev")
                self.ask("dev")
        for installation, task in self.tasks.items():
            if event is Event.CANCELLED:
                task.retry()
            else:
                task.clear()
            self.run(installation, event)
        self.want_again()
        if event is Event.DELETED:
            self.put_input()

    def want_again(self) -> None:
        """Whoever clears a task whose job was cancelled before its first row wants it again."""
        self.count_remade()
        self.unwanted = []

    def cancel_by_hand(self) -> None:
        sent = cancel_by_hand(self.vertex, self.story.looks)
        self.by_hand += sent
        if sent:
            self.count_remade()
            self.unwanted, self.before = sent, bill(self.vertex)

    def count_remade(self) -> None:
        if self.unwanted:
            self.remade += made_again(self.before, bill(self.vertex), self.unwanted)

    def run(self, installation: str, event: Event = Event.NOTHING) -> bool:
        """Run the task with Airflow's retries; return whether it succeeded."""
        task, seen = self.tasks[installation], len(self.vertex.requests)
        self.by_hand = []
        try:
            if event is Event.TWICE:
                name = run_two_tries(task, _looks, self.story.pause)
            elif event is Event.REFUSED:
                with watched(Refuse(lambda call: call.reads_input, reason=self.story.reason)):
                    name = task.run()
            else:
                name = task.run()
            self.attached[installation].append(name)
            return True
        except TaskFailedError:
            return False
        finally:
            sent = cancel_requests(self.vertex, seen)
            self.cancelled[installation] += (Counter(sent) - Counter(self.by_hand)).elements()

    def wrong(self) -> list[str]:
        """Return what a user would see on the bill."""
        self.count_remade()
        jobs = bill(self.vertex)
        return [
            *dict.fromkeys(self.remade),
            *overpaid(jobs, self.asked),
            *meddled(jobs, self.attached, "taken"),
            *meddled(jobs, self.cancelled, "cancelled"),
        ]

    def stuck(self) -> bool:
        """Whether a task that has cost nothing cannot succeed without faults, however often it is cleared."""
        for _ in range(len(self.vertex.jobs) + 2):
            self.tasks["prod"].clear()
            self.want_again()
            if self.run("prod"):
                settle(self.vertex)
                last = next(job for job in self.vertex.jobs if job["name"] == self.attached["prod"][-1])
                if JobState.parse(last["state"]).is_success:
                    return False
        # A job that is charged, or that somebody has cancelled, is not made again.
        return not any(
            charge.rows or charge.state == "CANCELLED" or "completionStats" not in job
            for charge, job in zip(bill(self.vertex), self.vertex.jobs, strict=True)
            if charge.asked_by == "prod"
        )


class _Store(dict[str, Any]):
    set = dict.__setitem__


def _looks(call: Call) -> bool:
    return call.lists_jobs or call.reads_input


@pytest.mark.parametrize(("seed", "count"), seeds("RELIABILITY_PLANS", default=30, each=15))
def test_no_plan_pays_twice_or_ends_in_an_unexplained_error(
    vertex: Emulator,
    submit_args: dict[str, Any],
    storage_client: storage.Client,
    bucket: str,
    seed: int,
    count: int,
) -> None:
    """A task run, cleared after each event of its story, ends with what was asked for on the bill."""

    def check(story: Story) -> None:
        begin(vertex, story.faults)
        run = Run(story, vertex, submit_args, storage_client, bucket)
        run.play()
        is_stuck = run.stuck()
        settle(vertex)
        assert run.wrong() == []
        assert not is_stuck, "nothing was charged, and the task cannot succeed"

    for_all(stories(), check, seed, count)


def known_state(vertex: Emulator, name: str) -> str:
    return next(job["state"] for job in vertex.jobs if job["name"] == name)
