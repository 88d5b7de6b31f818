"""Seven cells of the crash matrix; ``make crash-test`` runs all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .airflow_processes import Airflow
from .cells import DAG_IDS, cells, representative
from .matrix import Result, run_cells
from .processes import Client
from .runs import create_storage
from .wire import AIRFLOW, VERTEX, Exchange, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

CHOSEN = representative()
pytestmark = pytest.mark.xdist_group("crash")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    directory = tmp_path_factory.mktemp("crash")
    with Airflow(directory, pace="reads:2", parallelism=8, dag_ids=DAG_IDS) as running:
        create_storage(running)
        yield running


@pytest.fixture(scope="module")
def results(airflow: Airflow) -> dict[str, Result]:
    return {result.key: result for result in run_cells(airflow, CHOSEN, lanes=len(CHOSEN), seconds=240)}


@pytest.mark.crash
def test_airflow_is_reachable_through_the_proxy(airflow: Airflow) -> None:
    assert airflow.call("monitor/health")["triggerer"]["status"] == "healthy"


@pytest.mark.crash
@pytest.mark.parametrize("key", CHOSEN)
def test_one_job_is_created_and_no_row_is_lost_or_duplicated(key: str, results: dict[str, Result]) -> None:
    verdict = results[key].verdict
    assert not verdict.wrong
    assert (verdict.state, verdict.jobs, verdict.charged, verdict.rows) == ("success", 1, 6, 6)


@pytest.mark.crash
@pytest.mark.parametrize("key", [key for key in CHOSEN if key.endswith("TASK")])
def test_a_killed_task_is_retried(key: str, results: dict[str, Result]) -> None:
    assert results[key].verdict.retries > 0


def test_polls_of_the_triggerer_are_attributed_to_the_run_that_created_the_job() -> None:
    wire = Wire()
    parent = "/v1beta1/projects/p/locations/l/batchPredictionJobs"

    def see(server: str, method: str, path: str, task: str | None, response: object) -> str | None:
        exchange = Exchange(server, method, path, b"", lambda: Client(0, ""), task)
        wire.forward(exchange, lambda: (200, json.dumps(response).encode()))
        return exchange.run

    for number in (1, 2):
        task = f"{number:08}-0000-0000-0000-000000000000"
        started = {"dag_run": {"run_id": f"run_{number}"}}
        see(AIRFLOW, "PATCH", f"/execution/task-instances/{task}/run", task, started)
        see(VERTEX, "POST", "/token", task, {"access_token": "any"})
        see(VERTEX, "POST", parent, task, {"name": f"{parent[9:]}/{number}"})
    assert see(VERTEX, "GET", f"{parent}/1", None, {}) == "run_1"
    assert see(VERTEX, "GET", f"{parent}/2", None, {}) == "run_2"
    assert see(VERTEX, "GET", f"{parent}/3", None, {}) is None


def test_the_matrix_covers_every_failure_at_every_write() -> None:
    every = cells()
    assert len(every) >= 40
    writes = {cell.boundary for cell in every.values() if "GET" not in cell.boundary.method}
    for boundary in writes:
        here = {(cell.when.name, cell.failure.name) for cell in every.values() if cell.boundary == boundary}
        if any(failure == "TRIGGERER" for _, failure in here):
            continue
        if any(failure == "OVERTIME" for _, failure in here):
            continue
        killer = "WORKER" if boundary.server == AIRFLOW else "TASK"
        before = set() if boundary.name == "the start of the resumed task" else {("BEFORE", killer)}
        assert here >= before | {("AFTER", killer), ("AFTER", "LOST")}, boundary
