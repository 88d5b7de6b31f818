"""The quotas of the service: tasks wait for them, none fails, and nothing is paid twice."""

from __future__ import annotations

import itertools
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, timeout

from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, Route
from airflow_gemini_batch.emulator.quotas import Quotas
from airflow_gemini_batch.exceptions import SubmitStoppedError
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs import quota, submission
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from tests.measure import overpaid
from tests.task_instance import TaskInstance, execute
from tests.variants import variant

from .conftest import put_input
from .tasks import Task, TaskFailedError, bill, labels, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud import storage

    from airflow_gemini_batch.emulator.server import Emulator

TASKS = 24
ROWS = 3
WINDOW = 1.0


@pytest.fixture
def args(submit_args: dict[str, Any], storage_client: storage.Client, bucket: str) -> dict[str, Any]:
    """A task for each map index, with an input of its own."""
    for index in range(TASKS):
        put_input(storage_client, bucket, ROWS, f"{index}.jsonl", f"Hello {index}")
    return {**submit_args, "preflight": False}


@pytest.fixture
def mapped(args: dict[str, Any], bucket: str) -> Callable[..., Task]:
    run_id = uuid.uuid4().hex

    def task(index: int, **more: Any) -> Task:
        given = {
            **args,
            "input_uri": f"gs://{bucket}/{index}.jsonl",
            "labels": labels(f"submit-{index}", pace="reads-9"),
            **more,
        }
        return Task(
            lambda: GeminiBatchSubmitOperator(**given), TaskInstance("submit", run_id, map_index=index)
        )

    return task


@pytest.fixture
def real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-ups hold as long as outside of tests, and a minute of the quota takes a second."""
    monkeypatch.setattr(submission, "_FRESH", 20.0)
    monkeypatch.setattr(quota, "WAIT", WINDOW)


def wrong(vertex: Emulator) -> list[str]:
    vertex.quotas = None
    settle(vertex)
    return overpaid(bill(vertex), {f"submit-{index}": ROWS for index in range(TASKS)})


@pytest.mark.usefixtures("real_time")
@pytest.mark.parametrize(
    ("slides", "counts_refused"),
    [variant(*each) for each in itertools.product([False, True], repeat=2)],
)
def test_many_tasks_that_submit_at_once_all_wait_for_the_quota(
    vertex: Emulator, mapped: Callable[..., Task], slides: bool, counts_refused: bool
) -> None:
    vertex.quotas = Quotas(
        submission=6, management=60, window=WINDOW, slides=slides, counts_refused=counts_refused
    )
    with ThreadPoolExecutor(TASKS) as pool:
        names = list(pool.map(lambda index: mapped(index).run(tries=1), range(TASKS)))
    assert sorted(names) == sorted(job["name"] for job in vertex.jobs)
    assert len(set(names)) == TASKS
    usage = vertex.usage
    assert usage.submission == TASKS
    assert usage.refused["submission"] >= TASKS // 3
    # One look-up for each create request, and a second one before the first if the machine is slow.
    requests = usage.submission + usage.refused["submission"]
    assert requests <= usage.management <= requests + TASKS
    assert wrong(vertex) == []


@pytest.mark.usefixtures("real_time")
@pytest.mark.parametrize(("output", "reads"), [("gs", 1), ("bq", 3)])
def test_a_first_try_looks_once(
    vertex: Emulator, mapped: Callable[..., Task], regional: str, output: str, reads: int
) -> None:
    """With an output table, also for other jobs that write to it, before and after the create."""
    more = {"output_uri": f"bq://{regional}.out"} if output == "bq" else {}
    mapped(0, **more).run(tries=1)
    assert (vertex.usage.management, vertex.usage.submission) == (reads, 1)


@pytest.mark.usefixtures("real_time")
def test_a_first_try_looks_again_if_time_has_passed(
    vertex: Emulator, mapped: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "_FRESH", 0.2)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.LIST, kind=CallFaultKind.STALL, seconds=0.3, nth=(1,))]
    )
    mapped(0).run(tries=1)
    assert vertex.usage.management == 2


@pytest.mark.usefixtures("real_time")
def test_a_second_try_finds_what_the_first_one_creates_soon_after_its_look_up(
    vertex: Emulator, mapped: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try does not look again; the second one looks for a minute, here for three seconds."""
    monkeypatch.setattr(submission, "RETRY_WAITS", (0.5,) * 6)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.CREATE, kind=CallFaultKind.STALL, seconds=1.5, nth=(1,))]
    )
    first, second = mapped(0), mapped(0)
    second.ti.try_number = 2
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(first.run, 1)
        deadline = time.monotonic() + 30
        while not vertex.usage.management:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert second.run(tries=1) == running.result(30)
    assert len(vertex.jobs) == 1


def test_another_try_that_creates_the_job_during_the_wait_is_found(
    vertex: Emulator, mapped: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of the first try is taken for dead while it waits for the quota."""
    monkeypatch.setattr(quota, "WAIT", 2.0)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.CREATE, kind=CallFaultKind.STATUS, status=429, nth=(1,))]
    )
    first, second = mapped(0), mapped(0)
    second.ti.try_number = 2
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(first.run, 1)
        deadline = time.monotonic() + 30
        while not any(request.faults for request in vertex.requests):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        name = second.run(tries=1)
        assert running.result(30) == name
    assert len(vertex.jobs) == 1


def test_a_task_that_is_killed_while_it_waits_creates_nothing(
    vertex: Emulator, mapped: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "WAIT", 1.0)
    vertex.quotas = Quotas(submission=1, window=0.1)
    mapped(0).run(tries=1)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.CREATE, kind=CallFaultKind.STATUS, status=429, nth=(1,))]
    )
    task = mapped(1)
    operator = task.make()
    caught: list[BaseException] = []

    def run() -> None:
        try:
            execute(operator, {"ti": task.ti})
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 30
    while not any(request.faults for request in vertex.requests):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    operator.on_kill()
    thread.join(10)
    assert [type(error) for error in caught] == [SubmitStoppedError]
    assert len(vertex.jobs) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Airflow ends a task with this signal")
def test_the_wait_obeys_execution_timeout(
    vertex: Emulator, mapped: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "WAIT", 60.0)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.CREATE, kind=CallFaultKind.STATUS, status=429, nth=(1,))]
    )
    started = time.monotonic()
    with pytest.raises(AirflowTaskTimeout), timeout(2):
        mapped(0).run(tries=1)
    assert time.monotonic() - started < 20
    assert vertex.jobs == ()


@pytest.mark.parametrize("route", [Route.LIST, Route.GET])
def test_a_read_over_quota_is_sent_again_for_two_minutes(
    vertex: Emulator, mapped: Callable[..., Task], route: Route
) -> None:
    task = mapped(0)
    name = task.run(tries=1)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=route, kind=CallFaultKind.STATUS, status=429, nth=tuple(range(1, 7)))]
    )
    task.ti.try_number = 2
    assert task.run(tries=1) == name
    vertex.faults = FaultPlan(calls=[CallFault(route=route, kind=CallFaultKind.STATUS, status=429)])
    with pytest.raises(TaskFailedError):
        task.run(tries=1)


def test_a_poll_over_quota_is_not_sent_again_by_the_hook(
    vertex: Emulator, mapped: Callable[..., Task]
) -> None:
    """The wait does that, at its own pace."""
    from airflow_gemini_batch.batch_job import JobName
    from airflow_gemini_batch.exceptions import ApiError

    name = JobName.parse(mapped(0).run(tries=1))
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.GET, kind=CallFaultKind.STATUS, status=429, nth=(1,))]
    )
    with pytest.raises(ApiError, match="429"):
        GeminiBatchHook().get_job(name, retry=False)
