"""A task's process dies after its nth call to Google, for every n, and Airflow retries the task.

The tasks run in this process, so that every call can be tried: retry rounds, requests from BigQuery, merge,
truncate and images. ``EVERY_CALL=1`` tries all calls, as ``make crash-test`` does; otherwise one of each.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS, FaultPlan, RowFault, RowFaultKind
from airflow_gemini_batch.hooks import gemini_batch as hook_module
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from tests.measure import overpaid, wrong_rows
from tests.reliability.landed import Tables
from tests.reliability.tasks import Task, bill, settle
from tests.task_instance import TaskInstance
from tests.variants import variant
from tests.waits import shorten_waits
from tests.wire import KillAfter, Killed, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.wire import Call

KEYS = [f"k{number}" for number in range(6)]


@pytest.fixture(scope="module", autouse=True)
def short_waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shorten_waits(patch)
        yield


@pytest.fixture
def tables(
    vertex: Emulator,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
    bucket: str,
    regional: str,
) -> Tables:
    return Tables(vertex, storage_client, bigquery_client, bucket, regional)


@dataclass
class Scenario:
    """A task, and what must be true after it.

    :param asked: rows by task run
    :param wrong: returns what is wrong with the tables and objects
    """

    task: Task
    asked: dict[str, int]
    wrong: Callable[[], list[str]]


def run_killed(task: Task, nth: int | None) -> KillAfter:
    """Run a task whose process dies after its nth call, then with Airflow's retries."""
    killer = KillAfter(nth)
    try:
        with watched(killer):
            task.run()
    except (Killed, asyncio.CancelledError):
        # A poller that dies in the triggerer cancels what waits for it.
        assert killer.last
        # A new process has clients of its own.
        hook_module._clients.clear()
        task.retry()
        task.run()
    return killer


def requests(prefix: str, keys: list[str]) -> list[tuple[str, str]]:
    return [(key, f"{prefix} {key}") for key in keys]


def failing(*numbers: int, refused: tuple[int, ...] = (), dropped: tuple[int, ...] = ()) -> FaultPlan:
    kinds = {
        RowFaultKind.EXHAUSTED: numbers,
        RowFaultKind.REFUSED: refused,
        RowFaultKind.DROPPED: dropped,
    }
    return FaultPlan(rows=[RowFault(kind=kind, nth=nth) for kind, nth in kinds.items() if nth])


def wrong_statuses(tables: Tables, table: str, expected: dict[str, str]) -> list[str]:
    rows = [f"{row['key']} {row['status']}" for row in tables.rows(table)]
    errors = tables.bigquery.query_and_wait(f"SELECT key, status FROM `{table}_errors`")
    wanted = [f"{key} {status}" for key, status in expected.items()]
    failed = [each for each in wanted if not each.endswith("succeeded")]
    return [
        *wrong_rows(rows, wanted),
        *wrong_rows([f"{row['key']} {row['status']}" for row in errors], failed),
    ]


def retry(tables: Tables, *, named: bool = True) -> Scenario:
    table = tables.table()
    job = tables.submit(requests("ask", KEYS), plan=failing(1, 2, 3, refused=(6,)))
    tables.land(job, table).run()
    # The first round has one failure again, the second one none.
    tables.vertex.faults = FaultPlan(rows=[RowFault(kind=RowFaultKind.EXHAUSTED, nth=(3,))])
    task = tables.retry(table, job if named else None, max_rounds=3, pace="reads-2")
    expected = {**dict.fromkeys(KEYS, "succeeded"), KEYS[5]: "failed"}
    return Scenario(task, {"submit": 6, "retry": 3}, lambda: wrong_statuses(tables, table, expected))


def retry_of_a_table(tables: Tables) -> Scenario:
    return retry(tables, named=False)


def build(tables: Tables) -> Scenario:
    asks, prefix = tables.table("asks"), tables.table("export").rpartition(".")[2]
    sql = (
        "SELECT CONCAT('k', CAST(n AS STRING)) AS key, CONCAT('ask ', CAST(n AS STRING)) AS prompt "
        "FROM UNNEST(GENERATE_ARRAY(0, 5)) AS n"
    )
    arguments = {
        "sql": sql,
        "destination_table": asks,
        "location": "global",
        "export_uri": f"gs://{tables.bucket}/{prefix}",
    }
    ti = TaskInstance("build", prefix)
    task = Task(lambda: BigQueryToGeminiBatchRequestsOperator(task_id="build", **arguments), ti)

    def wrong() -> list[str]:
        blobs = tables.storage.list_blobs(tables.bucket, prefix=prefix)
        lines = [line for blob in blobs for line in blob.download_as_text().splitlines() if line]
        rows = tables.bigquery.query_and_wait(f"SELECT key FROM `{asks}`")
        return [
            *wrong_rows([json.loads(line)["key"] for line in lines], KEYS),
            *wrong_rows([row["key"] for row in rows], KEYS),
        ]

    return Scenario(task, {}, wrong)


def merge(tables: Tables) -> Scenario:
    table = tables.table()
    first = tables.submit(requests("first", ["k1", "k2", "k3", "k4"]), "first", failing(1, 2))
    second = tables.submit(
        requests("second", ["k2", "k3", "k4", "k5"]), "second", failing(refused=(3,), dropped=(4,))
    )
    tables.land(first, table, write_mode="merge").run()
    # The newest success of each key; without one, its newest row.
    expected = {"k1": "failed", "k2": "succeeded", "k3": "succeeded", "k4": "succeeded", "k5": "missing"}
    task = tables.land(second, table, write_mode="merge", run_id="second")
    return Scenario(task, {"first": 4, "second": 4}, lambda: wrong_statuses(tables, table, expected))


def truncate(tables: Tables) -> Scenario:
    table = tables.table()
    first = tables.submit(requests("first", ["k1", "k2"]), "first")
    second = tables.submit(requests("second", KEYS), "second", failing(1))
    tables.land(first, table, run_id="first").run()
    expected = {**dict.fromkeys(KEYS, "succeeded"), "k0": "failed"}
    task = tables.land(second, table, write_mode="truncate", run_id="second")
    return Scenario(task, {"first": 2, "second": 6}, lambda: wrong_statuses(tables, table, expected))


def many(tables: Tables) -> Scenario:
    table = tables.table()
    jobs = [
        tables.submit(
            requests(f"job {n}", KEYS[2 * n : 2 * n + 2]), f"job-{n}", failing(1) if n else NO_FAULTS
        )
        for n in range(3)
    ]
    # One of them has been landed before, with other options, so its rows are replaced.
    tables.land(jobs[1], table, include_request=False).run()
    expected = {**dict.fromkeys(KEYS, "succeeded"), "k2": "failed", "k4": "failed"}
    task = tables.land(jobs, table, run_id="many")
    asked = {f"job-{n}": 2 for n in range(3)}
    return Scenario(task, asked, lambda: wrong_statuses(tables, table, expected))


def images(tables: Tables) -> Scenario:
    table, prefix = tables.table(), tables.table("images").rpartition(".")[2]
    job = tables.submit(requests("draw", KEYS))
    _add_images(tables, job)
    task = tables.land(job, table, media_uri_prefix=f"gs://{tables.bucket}/{prefix}", run_id=prefix)

    def wrong() -> list[str]:
        field_ = "JSON_VALUE(response, '$.candidates[0].content.parts[1].fileData.fileUri')"
        rows = list(tables.bigquery.query_and_wait(f"SELECT key, {field_} AS uri FROM `{table}`"))
        stored = tables.storage.list_blobs(tables.bucket, prefix=prefix)
        objects = [f"gs://{tables.bucket}/{blob.name}" for blob in stored]
        return [
            *wrong_rows([row["key"] for row in rows], KEYS),
            *wrong_rows([str(row["uri"]) for row in rows], objects),
        ]

    return Scenario(task, {"submit": 6}, wrong)


def _add_images(tables: Tables, job: str) -> None:
    """Let each answer of a job contain an image, as those of an image model do."""
    resource = next(each for each in tables.vertex.jobs if each["name"] == job)
    directory = resource["outputInfo"]["gcsOutputDirectory"].removeprefix(f"gs://{tables.bucket}/")
    blob = tables.storage.bucket(tables.bucket).blob(f"{directory}/predictions.jsonl")
    lines = [json.loads(line) for line in blob.download_as_text().splitlines() if line]
    for number, line in enumerate(lines):
        data = base64.b64encode(b"\x89PNG" + bytes([number]) * 40).decode()
        image = {"inlineData": {"mimeType": "image/png", "data": data}}
        line["response"]["candidates"][0]["content"]["parts"].append(image)
    blob.upload_from_string("\n".join(map(json.dumps, lines)))


SCENARIOS = (variant(retry), retry_of_a_table, build, merge, many, variant(truncate), variant(images))


# Each part of the calls is a test of its own, so that they can run at the same time.
PARTS = 6 if os.environ.get("EVERY_CALL") else 1


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_a_task_that_is_killed_after_any_call(
    tables: Tables, scenario: Callable[[Tables], Scenario], part: int
) -> None:
    undisturbed = scenario(tables)
    calls = run_killed(undisturbed.task, None).calls
    assert undisturbed.wrong() == []
    numbers = range(1 + part, calls + 1, PARTS) if PARTS > 1 else [2 * calls // 3]
    found: dict[Call | None, list[str]] = {}
    for nth in numbers:
        # A list of jobs grows with every scenario, and each of these has a job or two.
        tables.vertex.clear()
        tried = scenario(tables)
        killer = run_killed(tried.task, nth)
        tables.vertex.faults = NO_FAULTS
        settle(tables.vertex)
        if wrong := [*tried.wrong(), *overpaid(bill(tables.vertex), tried.asked)]:
            found[killer.last] = wrong
    print(f"{scenario.__name__}: {calls} calls, killed after {len(numbers)} of them")
    assert found == {}
