"""A function whose prompts become a job: what it costs when the prompts change between two tries, or move."""

from __future__ import annotations

import itertools
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault
from tests.measure import wrong_rows
from tests.variants import variant

from .landed import wrong_bill
from .tasks import TaskFailedError, lost, lost_after_the_end, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.task_instance import TaskInstance

    from .landed import Tables

Prompts = list[tuple[str, str]]
KEYS = [f"k{number}" for number in range(10)]


def prompts_of(name: str) -> Prompts:
    return [(f"{name}{number}", f"ask {name} {number}") for number in range(5)]


def changing() -> Callable[[], Prompts]:
    """Return a function that asks something else each time."""
    times = itertools.count()

    def function() -> Prompts:
        time = next(times)
        return [(key, f"ask {key}, time {time}") for key in KEYS]

    return function


@pytest.mark.parametrize("index", [-1, 0], ids=["one", "mapped"])
def test_an_automatic_retry_pays_for_no_other_prompts(tables: Tables, index: int) -> None:
    ask = tables.ask(changing(), results_table=tables.table(), index=index)

    ask.while_deferred = partial(lost_after_the_end, tables.vertex)
    with pytest.raises(TaskFailedError, match="pays for no other request"):
        ask.run()
    assert len(tables.vertex.jobs) == 1
    assert wrong_bill(tables, ask=10) == []
    # A person who clears the task asks for the new prompts.
    ask.clear()
    ask.run()
    assert wrong_bill(tables, ask=20) == []


@pytest.mark.parametrize("index", [-1, 0], ids=["one", "mapped"])
def test_an_automatic_retry_replaces_a_running_job_of_other_prompts(tables: Tables, index: int) -> None:
    ask = tables.ask(changing(), index=index, pace="reads-9")
    ask.while_deferred = lost
    ask.run()
    settle(tables.vertex)
    assert sorted(job["state"] for job in tables.vertex.jobs) == [
        "JOB_STATE_CANCELLED",
        "JOB_STATE_SUCCEEDED",
    ]


@pytest.mark.parametrize("order", ["ba", variant("cab")])
def test_a_mapped_list_in_another_order_pays_for_what_is_new(tables: Tables, order: str) -> None:
    table, run_id = tables.table(), uuid.uuid4().hex
    seen: dict[int, TaskInstance] = {}
    for names in ("ab", order):
        for index, name in enumerate(names):
            ask = tables.ask(
                lambda name=name: prompts_of(name), name, results_table=table, index=index, run_id=run_id
            )
            ask.ti = seen.setdefault(index, ask.ti)
            if names == order:
                ask.clear()
            ask.run()
    assert wrong_bill(tables, **dict.fromkeys(order, 5)) == []
    expected = [key for name in order for key, _ in prompts_of(name)]
    assert wrong_rows([row["key"] for row in tables.rows(table)], expected) == []


def test_prompts_that_are_gone_at_the_next_try_are_paid_so_their_results_are_used(tables: Tables) -> None:
    """The first try has taken them from a queue."""
    table = tables.table()
    queue: list[Prompts] = [prompts_of("a")]
    ask = tables.ask(lambda: queue.pop() if queue else [], results_table=table, pace="reads-9")
    ask.while_deferred = lost
    ask.run()
    assert wrong_rows([row["key"] for row in tables.rows(table)], [key for key, _ in prompts_of("a")]) == []
    assert wrong_bill(tables, ask=5) == []


def test_a_task_run_without_prompts_is_skipped(tables: Tables) -> None:
    nothing: Sequence[Any] = []
    ask = tables.ask(lambda: nothing)
    for _ in range(2):
        with pytest.raises(AirflowSkipException):
            ask.run()
        ask.retry()
    assert tables.vertex.jobs == ()


def test_the_advice_after_a_bad_end_says_that_other_prompts_are_paid(tables: Tables) -> None:
    tables.vertex.faults = FaultPlan(jobs=[JobFault(ends=JobState.EXPIRED, after_rows=6, nth=(1,))])
    with pytest.raises(TaskFailedError, match="another input, model or output is paid in full"):
        tables.ask(changing()).run()
