"""Random fault plans from submitting to landing: every input row is in the table exactly once."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from airflow_gemini_batch.exceptions import OutputNotFoundError
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchResultsToBigQueryOperator
from tests.task_instance import TaskInstance

from .conftest import put_input
from .plans import fault_plans, for_all, seeds
from .tasks import Task, TaskFailedError, paid_twice
from .test_random_plans import begin, sensor_task, submit_task

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.faults.plan import FaultPlan
    from airflow_gemini_batch.emulator.server import Emulator


@pytest.mark.parametrize(("seed", "count"), seeds("RELIABILITY_LANDINGS", default=4, each=10))
def test_every_input_row_is_landed_exactly_once(
    vertex: Emulator,
    submit_args: dict[str, Any],
    bucket: str,
    dataset: str,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
    seed: int,
    count: int,
) -> None:
    """Submit, wait, land, and land again, each task with retries."""

    def check(drawn: tuple[FaultPlan, int]) -> None:
        plan, rows = drawn
        begin(vertex, plan)
        uri = put_input(storage_client, bucket, rows, f"{uuid.uuid4().hex}.jsonl")
        table = f"{dataset}.results_{uuid.uuid4().hex[:12]}"
        submit = submit_task({**submit_args, "input_uri": uri})
        try:
            name = submit.run()
            state = sensor_task(name, submit).run()
            manifests = [land_task(name, table, submit).run() for _ in range(2)]
        except TaskFailedError as error:
            if isinstance(error.__cause__, OutputNotFoundError):
                assert not has_output(state, storage_client)
            return
        finally:
            assert paid_twice(vertex) == []
        assert manifests[0] == manifests[1]
        landed = bigquery_client.query_and_wait(f"SELECT key, status FROM `{table}`")
        statuses: Counter[str] = Counter()
        keys: Counter[str] = Counter()
        for row in landed:
            statuses[row["status"]] += 1
            keys[row["key"]] += 1
        assert keys == dict.fromkeys((f"{number:03}" for number in range(rows)), 1)
        counts = manifests[0]["counts"]
        assert manifests[0]["input_rows"] == rows == sum(counts.values())
        assert statuses == {name: count for name, count in counts.items() if count}

    for_all(st.tuples(fault_plans(rows=True), st.integers(3, 8)), check, seed, count)


def land_task(name: str, table: str, submitted: Task) -> Task:
    def make() -> GeminiBatchResultsToBigQueryOperator:
        return GeminiBatchResultsToBigQueryOperator(task_id="land", job_name=name, destination_table=table)

    return Task(make, TaskInstance("land", submitted.ti.run_id))


def has_output(state: dict[str, Any], client: storage.Client) -> bool:
    if not state["output_location"]:
        return False
    bucket, _, prefix = state["output_location"].removeprefix("gs://").partition("/")
    return any(True for _ in client.list_blobs(bucket, prefix=prefix))
