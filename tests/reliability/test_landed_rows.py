"""One way to lose, double or repay a row at a time: each request of a landed job has one row."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import threading
from collections import Counter
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault, RowFault, RowFaultKind
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from tests.measure import overpaid, wrong_rows
from tests.task_instance import TaskInstance

from .landed import prompt_of
from .tasks import Task, TaskFailedError, bill, cancel_requests, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .landed import Tables

KEYS = [f"k{number}" for number in range(10)]
REQUESTS = [(key, f"ask {key}") for key in KEYS]


def failing(*numbers: int) -> FaultPlan:
    """These rows of the input fail, and may be asked again."""
    return FaultPlan(rows=[RowFault(kind=RowFaultKind.EXHAUSTED, nth=numbers)])


def keys(rows: Sequence[Any]) -> list[str]:
    return [row["key"] for row in rows]


def together(*tasks: Task) -> list[Any]:
    """Run tasks at the same time; return what each returns, or its error."""
    gate, results = threading.Barrier(len(tasks)), list[Any](tasks)

    def run(number: int, task: Task) -> None:
        gate.wait()
        try:
            results[number] = task.run()
        except TaskFailedError as error:
            results[number] = error.__cause__

    threads = [threading.Thread(target=run, args=each) for each in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def wrong_bill(tables: Tables, **asked: int) -> list[str]:
    settle(tables.vertex)
    return overpaid(bill(tables.vertex), asked)


@pytest.mark.parametrize("write_mode", ["append", "merge"])
@pytest.mark.parametrize("named", [True, False], ids=["of a job", "of a table"])
def test_two_retries_at_once(tables: Tables, named: bool, write_mode: str) -> None:
    """Two runs of the same task at once, as in a backfill: five failures are asked once."""
    table = tables.table()
    job = tables.submit(REQUESTS, plan=failing(1, 2, 3, 4, 5))
    tables.land(job, table, write_mode=write_mode).run()
    retries = [
        tables.retry(table, job if named else None, "retry", pace="milliseconds-300", write_mode=write_mode)
        for _ in range(2)
    ]
    for number, retry in enumerate(retries):
        retry.ti.run_id = f"scheduled__{number}"
    together(*retries)
    assert wrong_rows(keys(tables.rows(table)), KEYS) == []
    assert wrong_bill(tables, submit=10, retry=5) == []


def test_a_key_that_stands_for_several_requests(tables: Tables) -> None:
    requests = [(f"doc{n}", f"{what} of doc{n}") for n in range(4) for what in ("summary", "language")]
    table = tables.table()
    job = tables.submit(requests, plan=failing(1, 3, 5, 7))
    tables.land(job, table).run()
    failed = [prompt_of(row) for row in tables.failures(f"{table}_errors")]
    assert wrong_rows(failed, [text for _, text in requests if text.startswith("summary")]) == []
    tables.retry(table, job).run()
    answered = [prompt_of(row) for row in tables.rows(table) if row["status"] == "succeeded"]
    assert wrong_rows(answered, [text for _, text in requests]) == []
    assert wrong_bill(tables, submit=8, retry=4) == []


def test_two_merges_at_once(tables: Tables) -> None:
    table = tables.table()
    tables.land(tables.submit(REQUESTS[:1]), table, write_mode="merge").run()  # so that the table exists
    jobs = [tables.submit([(key, f"{name} {key}") for key in KEYS[1:]]) for name in ("first", "second")]
    together(
        *(
            tables.land(job, table, task_id=f"land-{number}", write_mode="merge")
            for number, job in enumerate(jobs)
        )
    )
    assert wrong_rows(keys(tables.rows(table)), KEYS) == []


def test_one_job_landed_by_two_tasks_at_once(tables: Tables) -> None:
    table = tables.table()
    warm = tables.submit([("warm", "warm")])
    tables.land(warm, table).run()
    job = tables.submit(REQUESTS)
    together(
        tables.land(job, table, task_id="land"),
        tables.land(job, table, task_id="land-2", include_request=False),
    )
    assert wrong_rows(keys(tables.rows(table)), ["warm", *KEYS]) == []


def test_truncate_does_not_remove_the_jobs_of_the_same_run(tables: Tables) -> None:
    """The landings of one run are mapped over its jobs."""
    table = tables.table()
    inputs = [[(f"{name}-{key}", f"ask {key}") for key in KEYS[:4]] for name in "abc"]
    jobs = [tables.submit(requests) for requests in inputs]
    landed: list[str] = []
    for index, (job, requests) in enumerate(zip(jobs, inputs, strict=True)):
        task = tables.land(job, table, write_mode="truncate")
        task.ti.map_index = index
        # A refusal keeps what is landed as well.
        with contextlib.suppress(TaskFailedError):
            task.run()
            landed += [key for key, _ in requests]
    assert wrong_rows(keys(tables.rows(table)), landed) == []


def test_an_error_table_that_two_tables_share(tables: Tables) -> None:
    """The retries of one table do not ask for the failures of the other one."""
    errors = tables.table("errors")
    names = {name: tables.table(name) for name in ("first", "second")}
    for number, (name, table) in enumerate(names.items()):
        requests = [(f"{name}-{key}", f"ask {key}") for key in KEYS[:4]]
        job = tables.submit(requests, f"submit-{number}", failing(1, 2))
        tables.land(job, table, error_table=errors).run()
    asked = {"submit-0": 4, "submit-1": 4}
    for name, table in names.items():
        with contextlib.suppress(TaskFailedError):
            tables.retry(table, None, f"retry-{name}", error_table=errors).run()
        asked[f"retry-{name}"] = 2
    assert wrong_bill(tables, **asked) == []
    for name, table in names.items():
        assert wrong_rows(keys(tables.rows(table)), [f"{name}-{key}" for key in KEYS[:4]]) == []
        statuses = Counter(row["status"] for row in tables.rows(table))
        assert statuses == {"succeeded": 4}


def test_a_worker_whose_clock_is_hours_ahead(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lands a job. Then another worker lands one with the same keys: its failures are open."""
    table = tables.table()
    first = tables.submit(REQUESTS, "first")
    with monkeypatch.context() as patch:
        _shift_clock(patch, timedelta(hours=3))
        tables.land(first, table).run()
    again = [(key, f"ask {key} again") for key in KEYS[:4]]
    second = tables.submit(again, "second", failing(1, 2))
    tables.land(second, table).run()
    tables.retry(table, None).run()
    answered = [prompt_of(row) for row in tables.rows(table) if row["status"] == "succeeded"]
    assert wrong_rows(answered, [text for _, text in (*REQUESTS, *again)]) == []
    assert wrong_bill(tables, first=10, second=4, retry=2) == []


def _shift_clock(patch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Set the clock of the worker: of every module of the package that asks it for the time."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

    importlib.import_module("airflow_gemini_batch.results.landing")
    for name, module in list(sys.modules.items()):
        ours = name.startswith("airflow_gemini_batch.") and ".emulator" not in name
        if ours and getattr(module, "datetime", None) is datetime:
            patch.setattr(module, "datetime", Shifted)


@pytest.mark.parametrize("suffix", ["", "_errors"])
def test_requests_do_not_replace_landed_results(tables: Tables, suffix: str) -> None:
    table = tables.table()
    tables.land(tables.submit(REQUESTS, plan=failing(1, 2)), table).run()
    landed = f"SELECT key FROM `{table}{suffix}`"
    before = keys(tables.bigquery.query_and_wait(landed))
    build = Task(
        lambda: BigQueryToGeminiBatchRequestsOperator(
            task_id="build",
            sql="SELECT 'new' AS key, 'hello' AS prompt",
            destination_table=f"{table}{suffix}",
            location="us-central1",
        ),
        TaskInstance("build"),
    )
    with contextlib.suppress(TaskFailedError):
        build.run(tries=1)
    assert (
        wrong_rows(keys(tables.bigquery.query_and_wait(f"SELECT key FROM `{table}{suffix}`")), before) == []
    )


def test_what_a_job_has_completed_before_it_expired_is_landed_and_the_rest_asked_once(tables: Tables) -> None:
    table = tables.table()
    plan = FaultPlan(jobs=[JobFault(ends=JobState.EXPIRED, after_rows=7)])
    job = tables.submit(REQUESTS, plan=plan, wait_for_completion=False)
    settle(tables.vertex)
    tables.land(job, table).run()
    assert wrong_rows(keys(tables.rows(table)), KEYS) == []
    tables.retry(table, job).run()
    assert Counter(row["status"] for row in tables.rows(table)) == {"succeeded": 10}
    assert wrong_bill(tables, submit=7, retry=3) == []


def _ask(tables: Tables, table: str, text: str) -> None:
    """Write a table of two requests, the same size for each text of the same length."""
    request = json.dumps({"contents": [{"role": "user", "parts": [{"text": text}]}]})
    rows = " UNION ALL ".join(f"SELECT '{key}' AS key, JSON '{request}' AS request" for key in ("a", "b"))
    tables.bigquery.query_and_wait(f"CREATE OR REPLACE TABLE `{table}` AS {rows}")


def test_an_input_table_rewritten_in_the_same_size_is_asked(tables: Tables) -> None:
    asks, results = tables.table("asks"), tables.table()
    _ask(tables, asks, "yesterday")
    submit = tables.submit_task(f"bq://{asks}")
    submit.run()
    _ask(tables, asks, "tomorrow!")
    submit.clear()
    tables.land(submit.run(), results).run()
    assert [prompt_of(row) for row in tables.rows(results)] == ["tomorrow!", "tomorrow!"]


def test_a_table_whose_metadata_changes_is_not_asked_again(tables: Tables) -> None:
    asks = tables.table("asks")
    _ask(tables, asks, "yesterday")
    submit = tables.submit_task(f"bq://{asks}", pace="reads-9", wait_for_completion=False)
    submit.run()
    found = tables.bigquery.get_table(asks)
    found.description = "Requests"
    tables.bigquery.update_table(found, ["description"])
    submit.clear()
    submit.run()
    assert cancel_requests(tables.vertex) == []
    assert wrong_bill(tables, submit=2) == []


def test_two_jobs_with_one_output_table(tables: Tables) -> None:
    """Two runs of a task name the same table: no answer is lost, or the second job is refused."""
    output, results = tables.table("output"), tables.table()
    expected: list[str] = []
    jobs = []
    asked = {"first": 0, "second": 0}
    for name in asked:
        requests = [(f"{name}-{key}", f"ask {key}") for key in KEYS[:4]]
        task = tables.submit_task(tables.put(requests), name, output_uri=f"bq://{output}")
        with contextlib.suppress(TaskFailedError):
            jobs.append(task.run(tries=1))
            expected += [key for key, _ in requests]
            asked[name] = 4
    assert jobs
    for job in jobs:
        tables.land(job, results).run()
    answered = [row["key"] for row in tables.rows(results) if row["status"] == "succeeded"]
    assert wrong_rows(answered, expected) == []
    assert wrong_bill(tables, **asked) == []
