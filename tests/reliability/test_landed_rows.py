"""One way to lose, double or repay a row at a time: each request of a landed job has one row."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import threading
from collections import Counter
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault, RowFault, RowFaultKind
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.results import outputs
from tests.measure import wrong_rows
from tests.task_instance import TaskInstance
from tests.variants import variant
from tests.wire import Refuse, watched

from .landed import prompt_of, wrong_bill
from .tasks import (
    Task,
    TaskFailedError,
    bill,
    cancel_by_hand,
    cancel_requests,
    lost,
    lost_after_the_end,
    settle,
)

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


@pytest.mark.parametrize(
    ("named", "write_mode"),
    [(True, "append"), *(variant(*each) for each in [(False, "merge"), (True, "merge"), (False, "append")])],
)
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


@pytest.mark.parametrize("chosen", [None, {"team": "red"}])
def test_a_retry_of_several_jobs_has_the_labels_that_all_of_them_have(
    tables: Tables, caplog: pytest.LogCaptureFixture, chosen: dict[str, str] | None
) -> None:
    """On the bill, a row of one team must not be that of another."""
    table = tables.table()
    shared = {"kind": "nightly", "emulator-pace": "reads-1"}
    jobs = [
        tables.submit([(f"{team} {n}", f"ask {team} {n}") for n in range(3)], plan=failing(1), labels=labels)
        for team, labels in {
            "red": {**shared, "team": "red"},
            "blue": {**shared, "team": "blue", "urgent": "yes"},
            "nobody": shared,
        }.items()
    ]
    tables.land(jobs, table).run()
    tables.retry(table, None, labels=chosen).run()
    (retried,) = [job for job in tables.vertex.jobs if job["name"] not in jobs]
    own = {key: value for key, value in retried["labels"].items() if not key.startswith("airflow")}
    assert own == (shared if chosen is None else chosen)
    assert ("none of these: team, urgent." in caplog.text) == (chosen is None)
    assert len(tables.rows(table)) == 9


def test_a_schema_that_the_table_does_not_fit_is_refused_before_a_round_is_paid(tables: Tables) -> None:
    def schema(kind: str, **more: str) -> dict[str, Any]:
        kinds = {"answer": kind, **more}
        return {"type": "object", "properties": {name: {"type": each} for name, each in kinds.items()}}

    table = tables.table()
    job = tables.submit(REQUESTS, plan=failing(1, 2))
    tables.land(job, table, response_schema=schema("integer")).run()
    for wrong, message in ((schema("string"), "answer"), (schema("integer", _FILE_x="string"), "_FILE_x")):
        with pytest.raises(TaskFailedError, match=message):
            tables.retry(table, job, response_schema=wrong).run()
        assert len(tables.vertex.jobs) == 1
    tables.retry(table, job, response_schema=schema("integer", more="string")).run()
    assert wrong_bill(tables, submit=10, retry=2) == []


@pytest.mark.parametrize(
    ("then", "dies"),
    [
        ("a table", "after its job"),
        variant("a table", "before its job"),
        variant("a job", "before its job"),
        variant("a job", "after its job"),
    ],
)
def test_a_retry_whose_job_name_is_changed_lands_the_round_that_it_has_paid(
    tables: Tables, then: str, dies: str
) -> None:
    table = tables.table()
    job = tables.submit(REQUESTS, plan=failing(1, 2, 3, 4))
    tables.land(job, table).run()
    first, second = (job, None) if then == "a table" else (None, job)
    retry = tables.retry(table, first, pace="reads-5")
    if dies == "before its job":
        refuse = Refuse(lambda call: call.creates_job, 503)
        with watched(refuse), pytest.raises(TaskFailedError):
            retry.run(tries=1)
    else:
        retry.while_deferred = lost
        with pytest.raises(TaskFailedError):
            retry.run(tries=1)
    changed = tables.retry(table, second, pace="reads-5")
    changed.ti = retry.ti
    result = changed.run()
    assert [each["asked"] for each in result["rounds"]] == [4]
    assert Counter(row["status"] for row in tables.rows(table)) == {"succeeded": 10}
    assert wrong_rows(keys(tables.rows(table)), KEYS) == []
    changed.clear()
    assert changed.run() == result
    assert wrong_bill(tables, submit=10, retry=4) == []


@pytest.mark.parametrize("dies", [variant(False), True])
def test_after_a_person_cancels_a_round_no_other_is_started(tables: Tables, dies: bool) -> None:
    """Its completed rows are landed; a person who clears the task goes on."""
    table = tables.table()
    job = tables.submit(REQUESTS, plan=failing(1, 2, 3, 4))
    tables.land(job, table).run()
    retry = tables.retry(table, job, pace="reads-4")

    def cancel() -> None:
        assert cancel_by_hand(tables.vertex, looks=6)
        if dies:
            settle(tables.vertex)
            lost()

    retry.while_deferred = cancel
    with pytest.raises(TaskFailedError, match="was cancelled") as caught:
        retry.run()
    assert "clear this task" in str(caught.value.__cause__)
    cancelled = tables.vertex.jobs
    assert len(cancelled) == 2
    done = Counter(row["status"] for row in tables.rows(table))["succeeded"]
    assert done == 6 + int(cancelled[1]["completionStats"]["successfulCount"]) > 6
    retry.clear()
    retry.run()
    assert Counter(row["status"] for row in tables.rows(table)) == {"succeeded": 10}
    assert wrong_bill(tables, submit=10, retry=4) == []


@pytest.mark.variant
def test_a_cancelled_round_that_was_followed_by_another_stops_nothing(tables: Tables) -> None:
    table = tables.table()
    job = tables.submit(REQUESTS, plan=failing(*range(1, 7)))
    tables.land(job, table).run()
    retry = tables.retry(table, job, pace="reads-4")
    retry.while_deferred = lambda: cancel_by_hand(tables.vertex, looks=6)
    with pytest.raises(TaskFailedError, match="was cancelled"):
        retry.run()
    retry.clear()

    retry.while_deferred = partial(lost_after_the_end, tables.vertex)
    retry.run()
    assert Counter(row["status"] for row in tables.rows(table)) == {"succeeded": 10}
    assert wrong_bill(tables, submit=10, retry=6) == []


def test_a_cancelled_round_that_has_done_all_is_enough(tables: Tables) -> None:
    table = tables.table()
    job = tables.submit(REQUESTS, plan=failing(1, 2))
    tables.land(job, table).run()
    tables.vertex.faults = FaultPlan(jobs=[JobFault(ends=JobState.CANCELLED)])
    assert tables.retry(table, job).run()["ended"] == "nothing_left"


@pytest.mark.variant
def test_a_person_who_clears_a_retry_without_progress_tries_again(tables: Tables) -> None:
    table = tables.table()
    job = tables.submit(REQUESTS, plan=failing(1, 2))
    tables.land(job, table).run()
    tables.vertex.faults = failing(1, 2)
    retry = tables.retry(table, job)
    first = retry.run()
    assert (first["ended"], first["left"]) == ("no_progress", 2)
    tables.vertex.faults = FaultPlan()
    retry.retry()
    assert retry.run() == first  # An automatic retry asks for nothing.
    retry.clear()
    assert retry.run()["left"] == 0
    assert Counter(row["status"] for row in tables.rows(table)) == {"succeeded": 10}
    assert wrong_bill(tables, submit=10, retry=2) == []


@pytest.mark.variant
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


@pytest.mark.variant
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


@pytest.mark.variant
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


@pytest.mark.parametrize("order", [*map(variant, [(0, 1, 2), (2, 0, 1), (1, 2, 0)]), None])
def test_truncate_with_a_mapped_list_that_shifts(tables: Tables, order: Sequence[int] | None) -> None:
    """``[a, b]`` becomes ``[c, a, b]``, and all landings are cleared; without an order at the same time."""
    table = tables.table()
    jobs = {name: tables.submit([(f"{name}{n}", "ask") for n in range(3)]) for name in "abc"}
    seen: dict[int, TaskInstance] = {}

    def landing(index: int, name: str) -> Task:
        task = tables.land(jobs[name], table, write_mode="truncate")
        task.ti.map_index = index
        task.ti = seen.setdefault(index, task.ti)
        return task

    for index, name in enumerate("ab"):
        landing(index, name).run()
    again = [landing(index, name) for index, name in enumerate("cab")]
    for task in again:
        task.clear()
    if order is None:
        assert not [each for each in together(*again) if isinstance(each, Exception)]
    else:
        for index in order:
            again[index].run()
    expected = [f"{name}{n}" for name in "abc" for n in range(3)]
    assert wrong_rows(keys(tables.rows(table)), expected) == []


@pytest.mark.variant
def test_truncate_keeps_a_job_that_an_earlier_run_has_landed_as_well(tables: Tables) -> None:
    table = tables.table()
    jobs = [tables.submit([(f"{name}{n}", "ask") for n in range(3)]) for name in "ab"]
    tables.land(jobs[0], table, run_id="first", write_mode="truncate").run()
    for index, job in enumerate(jobs):
        task = tables.land(job, table, run_id="second", write_mode="truncate")
        task.ti.map_index = index
        task.run()
    assert wrong_rows(keys(tables.rows(table)), [f"{name}{n}" for name in "ab" for n in range(3)]) == []


@pytest.mark.variant
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


@pytest.mark.variant
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
            location="global",
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


def _ask(tables: Tables, table: str, text: str, names: Sequence[str] = ("a", "b")) -> None:
    """Write a table of requests, the same size for each text of the same length."""
    request = json.dumps({"contents": [{"role": "user", "parts": [{"text": text}]}]})
    rows = " UNION ALL ".join(f"SELECT '{key}' AS key, JSON '{request}' AS request" for key in names)
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


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("INSERT INTO `{asks}` SELECT CONCAT('new ', key), request FROM `{asks}`", id="insert"),
        variant("DELETE FROM `{asks}` WHERE key = 'k0'", name="delete"),
        variant("UPDATE `{asks}` SET key = CONCAT('new ', key) WHERE TRUE", name="update"),
    ],
)
def test_an_input_table_that_changes_after_its_job_expired(
    tables: Tables, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open can no longer be known for sure, and a row that the job was not asked is not paid."""
    asks, results = tables.table("asks"), tables.table()
    _ask(tables, asks, "yesterday", KEYS[:6])
    monkeypatch.setattr(outputs, "_SLACK", timedelta())  # Here both services have one clock.
    plan = FaultPlan(jobs=[JobFault(ends=JobState.EXPIRED, after_rows=3)])
    tables.vertex.faults = plan
    job = tables.submit_task(f"bq://{asks}", on_incomplete="continue").run()
    tables.vertex.faults = FaultPlan()
    tables.bigquery.query_and_wait(change.format(asks=asks))
    manifest = tables.land(job, results).run()
    assert manifest["input_known"] is False
    with contextlib.suppress(TaskFailedError):
        tables.retry(results, job).run()
    assert wrong_bill(tables, submit=6, retry=3) == []
    assert sum(charge.rows for charge in bill(tables.vertex)) <= 6


@pytest.mark.parametrize(
    ("kind", "retried", "mode"),
    [
        variant("file is deleted", True, "merge"),
        ("table is rebuilt", False, "append"),
        variant("file is deleted", True, "append"),
        variant("file is deleted", False, "append"),
        variant("file is deleted", False, "merge"),
        variant("table is rebuilt", True, "append"),
        variant("table is rebuilt", True, "merge"),
        variant("table is rebuilt", False, "merge"),
    ],
)
def test_a_job_is_landed_again_after_its_input_is_gone(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, kind: str, retried: bool, mode: str
) -> None:
    """What is known of the rows that it has not answered is kept: their keys, and that they may be asked."""
    monkeypatch.setattr(outputs, "_SLACK", timedelta())  # Here all services have one clock.
    asks, results = tables.table("asks"), tables.table()
    if kind == "table is rebuilt":
        _ask(tables, asks, "yesterday", KEYS)
        uri = f"bq://{asks}"
    else:
        uri = tables.put(REQUESTS)
    tables.vertex.faults = FaultPlan(jobs=[JobFault(ends=JobState.EXPIRED, after_rows=6)])
    job = tables.submit_task(uri, on_incomplete="continue").run()
    tables.vertex.faults = FaultPlan()
    land = tables.land(job, results, write_mode=mode)
    retry = tables.retry(results, job, write_mode=mode)
    land.run()
    if retried:
        retry.run()
    if kind == "table is rebuilt":
        _ask(tables, asks, "tomorrow!", KEYS)
    else:
        tables.storage.bucket(tables.bucket).blob(uri.rpartition("/")[2]).delete()
    land.clear()
    land.run()
    if not retried:
        assert Counter(row["status"] for row in tables.rows(results)) == {"succeeded": 6, "missing": 4}
    assert wrong_rows(keys(tables.rows(results)), KEYS) == []
    retry.clear()
    retry.run()
    assert Counter(row["status"] for row in tables.rows(results)) == {"succeeded": 10}
    assert wrong_rows(keys(tables.rows(results)), KEYS) == []
    assert wrong_bill(tables, submit=6, retry=4) == []


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
