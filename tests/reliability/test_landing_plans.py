"""Random plans from submitting to landing and retries: each input row is in the table once, and paid once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS, FaultPlan
from airflow_gemini_batch.exceptions import OutputNotFoundError
from tests.measure import gone, overpaid, wrong_rows

from .plans import fault_plans, for_all, job_faults, row_faults, seeds
from .tasks import TaskFailedError, bill, settle
from .test_random_plans import begin, sensor_task, submit_task

if TYPE_CHECKING:
    from google.cloud import storage

    from airflow_gemini_batch.emulator.server import Emulator

    from .landed import Tables
    from .tasks import Task


@dataclass(frozen=True)
class Landing:
    """A job that is landed, and whose failures are asked again.

    :param faults: of submitting, waiting and landing
    :param retried: faults of the jobs of the retries
    :param by_job: whether the retries name the job; otherwise they ask all failures of the table
    """

    faults: FaultPlan
    retried: FaultPlan
    rows: int
    by_job: bool
    write_mode: str


landings = st.builds(
    Landing,
    faults=fault_plans(rows=True),
    retried=st.builds(
        FaultPlan, rows=st.lists(row_faults, max_size=2), jobs=st.lists(job_faults, max_size=2)
    ),
    rows=st.integers(3, 8),
    by_job=st.booleans(),
    write_mode=st.sampled_from(["append", "merge"]),
)


@pytest.mark.parametrize(("seed", "count"), seeds("RELIABILITY_LANDINGS", default=2, each=2))
def test_every_input_row_is_landed_and_paid_once(
    vertex: Emulator, submit_args: dict[str, Any], tables: Tables, seed: int, count: int
) -> None:
    """Submit, wait, land, land again, retry, retry in another task run, land once more."""

    def check(plan: Landing) -> None:
        begin(vertex, plan.faults)
        requests = [(f"k{number:03}", f"Hello {number}") for number in range(plan.rows)]
        keys = [key for key, _ in requests]
        asked = {"submit": plan.rows}
        table = tables.table()
        submit = submit_task({**submit_args, "input_uri": tables.put(requests)})
        landed = False
        try:
            job = submit.run()
            state = sensor_task(job, submit).run()
            land = tables.land(job, table, write_mode=plan.write_mode)
            manifest = _landed(land, state, tables.storage)
            if manifest is None:
                return
            landed = True
            assert wrong_rows([row["key"] for row in tables.rows(table)], keys) == []
            assert manifest["input_rows"] == plan.rows == sum(manifest["counts"].values())
            vertex.faults = plan.retried
            for asked_by in ("retry", "retry-2"):
                answers = _answers(tables, table)
                asked[asked_by] = len(tables.failures(f"{table}_errors"))
                retry = tables.retry(
                    table, job if plan.by_job else None, asked_by, pace="reads-1", write_mode=plan.write_mode
                )
                _run_and_clear(retry)
                assert gone(answers, _answers(tables, table)) == []
            answers = _answers(tables, table)
            vertex.faults = NO_FAULTS
            land.clear()
            land.run()
            assert gone(answers, _answers(tables, table)) == []
        except TaskFailedError:
            pass
        finally:
            settle(vertex)
            assert overpaid(bill(vertex), asked) == []
        if landed:
            assert wrong_rows([row["key"] for row in tables.rows(table)], keys) == []

    for_all(landings, check, seed, count)


def _landed(land: Task, state: dict[str, Any], client: storage.Client) -> dict[str, Any] | None:
    """Land a job twice; return the manifest, or ``None`` if the job has no output."""
    try:
        manifests = [land.run() for _ in range(2)]
    except TaskFailedError as error:
        if isinstance(error.__cause__, OutputNotFoundError):
            assert not has_output(state, client)
        return None
    assert manifests[0] == manifests[1]
    return dict(manifests[0])


def _run_and_clear(task: Task) -> None:
    for _ in range(2):
        with contextlib.suppress(TaskFailedError):
            task.run()
        task.clear()


def _answers(tables: Tables, table: str) -> list[tuple[str, str]]:
    return [(row["key"], row["text"]) for row in tables.rows(table) if row["status"] == "succeeded"]


def has_output(state: dict[str, Any], client: storage.Client) -> bool:
    if not state["output_location"]:
        return False
    bucket, _, prefix = state["output_location"].removeprefix("gs://").partition("/")
    return any(True for _ in client.list_blobs(bucket, prefix=prefix))
