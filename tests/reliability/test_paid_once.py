"""One way to pay twice at a time: what a task run costs is what it asked for."""

from __future__ import annotations

import contextlib
import threading
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import (
    CallFault,
    CallFaultKind,
    FaultPlan,
    JobFault,
    OutputFault,
    Route,
)
from airflow_gemini_batch.jobs import submission
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from tests.measure import made_again, meddled, overpaid
from tests.task_instance import TaskInstance
from tests.wire import PauseBefore, Refuse, watched

from .conftest import put_input
from .tasks import (
    Task,
    TaskFailedError,
    active,
    bill,
    cancel_by_hand,
    cancel_requests,
    labels,
    lost,
    run_two_tries,
    settle,
)

if TYPE_CHECKING:
    from google.cloud import storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.wire import Call

ROWS = 10
WAITS = {name: getattr(submission, name) for name in dir(submission) if name.endswith("_WAITS")}
"""As they are outside of tests, in seconds."""


@pytest.fixture
def args(submit_args: dict[str, Any], storage_client: storage.Client, bucket: str) -> dict[str, Any]:
    """A task that asks for ten rows."""
    uri = put_input(storage_client, bucket, ROWS)
    return {**submit_args, "input_uri": uri, "preflight": False, "poll_interval": 0.005}


def task_of(args: dict[str, Any], asked_by: str = "submit", **more: Any) -> Task:
    pace = more.pop("pace", "")
    installation = more.pop("installation", "")
    ti = more.pop("ti", None) or TaskInstance(run_id=uuid.uuid4().hex)
    given = {**args, "labels": labels(asked_by, installation, pace), **more}
    return Task(lambda: GeminiBatchSubmitOperator(**given), ti, installation=installation)


def run_and_clear(task: Task, times: int = 2) -> None:
    """Run the task with Airflow's retries; clear it, and run it again."""
    for _ in range(times):
        with contextlib.suppress(TaskFailedError):
            task.run(tries=3)
        task.clear()


def wrong(vertex: Emulator, **asked: int) -> list[str]:
    settle(vertex)
    return overpaid(bill(vertex), asked or {"submit": ROWS})


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize(
    "fault",
    [
        JobFault(ends=JobState.EXPIRED, after_rows=9),
        JobFault(ends=JobState.EXPIRED, after_rows=9, counts=False),
        JobFault(ends=JobState.EXPIRED, after_rows=9, output=OutputFault.NO_INFO),
        JobFault(ends=JobState.FAILED, code=7, after_rows=4, exports=False),
        JobFault(ends=JobState.FAILED, code=13, after_rows=9),
        JobFault(ends=JobState.CANCELLED, after_rows=1),
    ],
    ids=["expired", "no counts", "no output", "no permission to write", "system error", "cancelled"],
)
def test_a_job_that_ends_badly_after_some_rows_is_not_made_again(
    vertex: Emulator, args: dict[str, Any], fault: JobFault, waits: bool
) -> None:
    vertex.faults = FaultPlan(jobs=[fault])
    run_and_clear(task_of(args, wait_for_completion=waits))
    assert wrong(vertex) == []


@pytest.mark.parametrize("code", [3, 7, 9, 13])
def test_a_job_that_fails_before_its_first_row_is_made_again(
    vertex: Emulator, args: dict[str, Any], code: int
) -> None:
    fault = JobFault(ends=JobState.FAILED, code=code, after_rows=0, exports=False, nth=(1,))
    vertex.faults = FaultPlan(jobs=[fault])
    task = task_of(args)
    task.run()
    task.clear()
    task.run()
    settle(vertex)
    assert [charge.rows for charge in bill(vertex)] == [0, ROWS]


@pytest.mark.parametrize("looks", [0, 3, 5])
def test_a_job_that_a_person_cancels_is_not_made_again(
    vertex: Emulator, args: dict[str, Any], looks: int
) -> None:
    """With Airflow's retries; if rows are completed, also after the task is cleared."""
    before: list[Any] = []
    task = task_of(args, wait_for_completion=True, pace="reads-3")
    cancelled: list[str] = []

    def cancel() -> None:
        cancelled.extend(cancel_by_hand(vertex, looks))
        before.extend(bill(vertex))

    task.while_deferred = cancel
    with pytest.raises(TaskFailedError):
        task.run(tries=3)
    task.retry()
    with pytest.raises(TaskFailedError):
        task.run(tries=3)
    assert wrong(vertex) == []
    assert cancelled
    assert made_again(before, bill(vertex), cancelled) == []
    run_and_clear(task)
    assert wrong(vertex) == []


@pytest.mark.parametrize(
    "fault", [None, JobFault(ends=JobState.EXPIRED, after_rows=5)], ids=["ok", "expired"]
)
@pytest.mark.parametrize("kind", ["one file", "a list", "a pattern", "looks missing"])
def test_input_that_is_deleted_after_its_job_was_created(
    vertex: Emulator,
    args: dict[str, Any],
    storage_client: storage.Client,
    bucket: str,
    kind: str,
    fault: JobFault | None,
) -> None:
    """Nobody needs it any more: a retry and a cleared task find the job, and its rows can be used."""
    uri = args["input_uri"]
    given = {"a list": [uri], "a pattern": f"gs://{bucket}/in*.jsonl"}.get(kind, uri)
    vertex.faults = FaultPlan(jobs=[fault] if fault else [])
    task = task_of({**args, "input_uri": given, "on_incomplete": "continue"}, wait_for_completion=True)
    name = task.run()
    if kind != "looks missing":
        storage_client.bucket(bucket).blob("in.jsonl").delete()
    for prepare in (task.retry, task.clear):
        prepare()
        look = Refuse(lambda call: kind == "looks missing" and call.reads_input, 404, reason="notFound")
        with watched(look):
            assert task.run(tries=1) == name
    before = vertex.jobs
    with watched(look), pytest.raises(TaskFailedError, match=r"input_uri=.*does not exist"):
        # The first run has found nothing to attach to.
        task_of({**args, "input_uri": f"gs://{bucket}/gone.jsonl"}).run()
    assert vertex.jobs == before
    assert len(before) == 1


class _EndsBeforeItsCancellation:
    """The job ends right before the request to cancel it arrives."""

    def __init__(self, vertex: Emulator) -> None:
        self.vertex = vertex
        self.cancels = 0

    def before(self, call: Call) -> None:
        if call.url.endswith(":cancel"):
            self.cancels += 1
            settle(self.vertex)

    def after(self, call: Call) -> None:
        """Do nothing."""


def test_a_job_that_ends_before_it_is_replaced_is_charged(
    vertex: Emulator, args: dict[str, Any], storage_client: storage.Client, bucket: str
) -> None:
    """So an automatic retry does not pay for the new request; a person who clears the task does."""
    task = task_of(args, wait_for_completion=False, pace="reads-9")
    task.run()
    put_input(storage_client, bucket, ROWS, text="Bye")
    task.retry()
    race = _EndsBeforeItsCancellation(vertex)
    with watched(race), pytest.raises(TaskFailedError, match="pays for no other request"):
        task.run()
    assert race.cancels == 1
    assert wrong(vertex) == []
    task.clear()
    task.run()
    assert wrong(vertex, submit=2 * ROWS) == []


def test_the_table_that_a_job_was_to_write_is_used_though_the_service_does_not_name_it(
    vertex: Emulator, args: dict[str, Any], regional: str
) -> None:
    fault = JobFault(ends=JobState.EXPIRED, after_rows=4, output=OutputFault.NO_INFO)
    vertex.faults = FaultPlan(jobs=[fault])
    args |= {"output_uri": f"bq://{regional}.output", "on_incomplete": "continue"}
    task_of(args, wait_for_completion=True).run()
    assert wrong(vertex) == []


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_a_mapped_list_shifts_and_each_index_has_an_output_of_its_own(
    vertex: Emulator,
    args: dict[str, Any],
    storage_client: storage.Client,
    bucket: str,
    regional: str,
    kind: str,
) -> None:
    run_id, seen = uuid.uuid4().hex, dict[int, TaskInstance]()
    uris = {name: put_input(storage_client, bucket, ROWS, f"{name}.jsonl", name) for name in "abc"}
    outputs = f"bq://{regional}.out_{{}}" if kind == "table" else f"gs://{bucket}/out/{{}}"
    for order in ("abc", "cab"):
        for index, name in enumerate(order):
            ti = seen.setdefault(index, TaskInstance("submit", run_id, map_index=index))
            given = {**args, "input_uri": uris[name], "output_uri": outputs.format(index)}
            task = task_of(given, name, ti=ti, wait_for_completion=True)
            if order == "cab":
                task.clear()
            task.run(tries=1)
    assert len(vertex.jobs) == 3
    assert wrong(vertex, a=ROWS, b=ROWS, c=ROWS) == []


@pytest.mark.parametrize("retries", [2, 1, 3])
@pytest.mark.parametrize("what", ["cancelled", "changed"])
def test_the_number_of_retries_is_changed_during_the_run(
    vertex: Emulator,
    args: dict[str, Any],
    storage_client: storage.Client,
    bucket: str,
    retries: int,
    what: str,
) -> None:
    """Airflow keeps ``max_tries`` of the run, and counts the retries of a cleared task from the new value."""
    ti = TaskInstance(run_id=uuid.uuid4().hex, max_tries=3)
    ti.task = SimpleNamespace(retries=3)
    task = task_of(args, wait_for_completion=True, pace="reads-4", ti=ti)
    task.while_deferred = lost
    with pytest.raises(TaskFailedError):
        task.run(tries=1)
    if what == "cancelled":
        cancel_by_hand(vertex)
    settle(vertex)
    if what == "changed":
        put_input(storage_client, bucket, ROWS, text="Bye")
    before = bill(vertex)
    ti.task = SimpleNamespace(retries=retries)
    with pytest.raises(TaskFailedError):
        task.run(tries=3)
    settle(vertex)
    assert bill(vertex) == before

    # A person who clears the task asks again. With fewer retries than before, Airflow shows the same numbers
    # for this as for an automatic retry, once; the task then fails.
    for _ in range(2 if retries < 3 else 1):
        ti.max_tries, ti.try_number = ti.try_number + retries, ti.try_number + 1
        with contextlib.suppress(TaskFailedError):
            task.run(tries=1)
    settle(vertex)
    assert sum(charge.rows for charge in bill(vertex)) == ROWS + sum(charge.rows for charge in before)


@pytest.mark.parametrize("waits", [True, False])
def test_a_retry_with_the_same_token_is_not_a_new_request(
    vertex: Emulator, args: dict[str, Any], waits: bool
) -> None:
    task = task_of(args, wait_for_completion=waits)
    task.run()
    again = task_of(args, wait_for_completion=waits, force_new="second", ti=task.ti)
    run_and_clear(again, 3)
    assert wrong(vertex, submit=2 * ROWS) == []


def test_another_installation_leaves_a_job_alone(
    vertex: Emulator, args: dict[str, Any], storage_client: storage.Client, bucket: str
) -> None:
    """The same DAG file in development and production: the same names, another input."""
    other = put_input(storage_client, bucket, ROWS, "dev.jsonl", "Other")
    ti = TaskInstance(run_id="scheduled__2026-11-25T00:00:00+00:00")
    prod = task_of(args, "prod", installation="prod", pace="reads-9", ti=ti)
    dev = task_of(
        {**args, "input_uri": other},
        "dev",
        installation="dev",
        pace="reads-9",
        ti=TaskInstance(run_id=ti.run_id),
    )
    name = prod.run()
    seen = len(vertex.requests)
    dev.run()
    assert meddled(bill(vertex), {"dev": cancel_requests(vertex, seen)}, "cancelled") == []
    assert name in active(vertex)


def test_another_installation_does_not_take_a_job(vertex: Emulator, args: dict[str, Any]) -> None:
    """The same DAG file in development and production: the same names and the same input."""
    tasks = {
        name: task_of(args, name, installation=name, ti=TaskInstance(run_id="manual__1"))
        for name in ("prod", "dev")
    }
    used = {name: [task.run(), task.run()] for name, task in tasks.items()}
    assert meddled(bill(vertex), used, "taken") == []
    assert wrong(vertex, prod=ROWS, dev=ROWS) == []


@pytest.mark.parametrize("order", ["cab", "dabc", "bc", "ba"])
@pytest.mark.parametrize("pace", ["", "reads-9"], ids=["ended", "running"])
def test_mapped_tasks_whose_list_changes_order(
    vertex: Emulator, args: dict[str, Any], storage_client: storage.Client, bucket: str, order: str, pace: str
) -> None:
    """Cleared, the tasks of a, b and c find them in another order, or beside another one."""
    uris = {name: put_input(storage_client, bucket, ROWS, f"{name}.jsonl", name) for name in "abcd"}
    for names in ("abc", order):
        for index, name in enumerate(names):
            task = task_of(
                {**args, "input_uri": uris[name]}, name, ti=TaskInstance(map_index=index), pace=pace
            )
            if names == order and index < len("abc"):
                task.clear()
            task.run()
    assert wrong(vertex, **dict.fromkeys("abcd", ROWS)) == []
    assert cancel_requests(vertex) == []


def looks(call: Call) -> bool:
    """Whether a call looks for jobs or at the input. Between the last one and the create, nobody can look."""
    return call.lists_jobs or call.reads_input


@pytest.mark.parametrize("nth", range(1, 7))
def test_two_tries_at_once(vertex: Emulator, args: dict[str, Any], nth: int) -> None:
    """The first try pauses before one of its looks, and goes on when the second one is done."""
    task = task_of({**args, "preflight": True})
    run_two_tries(task, looks, nth)
    assert wrong(vertex) == []


@pytest.mark.parametrize("seconds", [30, 45])
def test_a_create_that_stalls_while_its_process_is_killed(
    vertex: Emulator, args: dict[str, Any], monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Airflow retries at once; the service creates the job later. A second takes 50 ms here."""
    for name, waits in WAITS.items():
        monkeypatch.setattr(submission, name, tuple(wait / 20 for wait in waits))
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.CREATE, kind=CallFaultKind.STALL, nth=(1,), seconds=seconds / 20)]
    )
    task = task_of(args)
    first = task_of(args, ti=TaskInstance(run_id=task.ti.run_id))
    sent = PauseBefore(lambda call: call.method == "POST" and call.url.endswith("/batchPredictionJobs"), 1)
    sent.go_on()
    killed = sent.thread = threading.Thread(target=lambda: first.run(tries=1))
    with watched(sent):
        killed.start()
        assert sent.reached.wait(30)
        task.ti.try_number = 2
        task.run()
        killed.join(30)
    assert wrong(vertex) == []


@pytest.mark.parametrize("status", [(403, "forbidden"), (403, "quotaExceeded"), (429, "rateLimitExceeded")])
@pytest.mark.parametrize("pace", ["", "reads-9"], ids=["ended", "running"])
def test_a_refused_look_at_the_input_says_nothing_about_it(
    vertex: Emulator, args: dict[str, Any], pace: str, status: tuple[int, str]
) -> None:
    task = task_of(args, pace=pace)
    task.run()
    task.clear()
    refuse = Refuse(lambda call: call.reads_input, *status)
    with watched(refuse), contextlib.suppress(TaskFailedError):
        task.run()
    assert refuse.refused
    task.clear()
    task.run()
    assert cancel_requests(vertex) == []
    assert wrong(vertex) == []
