"""Six cells of the crash matrix, one for each kind of end; ``make crash-test`` runs all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .airflow_processes import Airflow
from .cells import DAG_IDS, cells, representative
from .matrix import Result, run_cells
from .runs import lay_out
from .wire import AIRFLOW

if TYPE_CHECKING:
    from collections.abc import Iterator

CHOSEN = representative()
pytestmark = pytest.mark.xdist_group("crash")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    directory = tmp_path_factory.mktemp("crash")
    with Airflow(directory, pace="reads:2", parallelism=8, dag_ids=DAG_IDS) as running:
        lay_out(running)
        yield running


@pytest.fixture(scope="module")
def results(airflow: Airflow) -> dict[str, Result]:
    return {result.key: result for result in run_cells(airflow, CHOSEN, lanes=len(CHOSEN), seconds=240)}


@pytest.mark.system
def test_airflow_talks_over_the_wire(airflow: Airflow) -> None:
    assert airflow.call("monitor/health")["triggerer"]["status"] == "healthy"


@pytest.mark.system
@pytest.mark.parametrize("key", CHOSEN)
def test_one_job_is_paid_and_no_row_is_lost_or_doubled(key: str, results: dict[str, Result]) -> None:
    verdict = results[key].verdict
    assert not verdict.wrong
    assert (verdict.state, verdict.jobs, verdict.rows) == ("success", 1, 6)


@pytest.mark.system
@pytest.mark.parametrize("key", [key for key in CHOSEN if key.endswith(("TASK", "WORKER"))])
def test_what_was_killed_was_tried_again(key: str, results: dict[str, Result]) -> None:
    assert results[key].verdict.retries > 0


def test_the_matrix_has_every_way_to_die_at_every_change() -> None:
    every = cells()
    assert len(every) >= 40
    changes = {cell.boundary for cell in every.values() if cell.boundary.method != "GET"}
    for boundary in changes:
        here = {(cell.when.name, cell.blow.name) for cell in every.values() if cell.boundary == boundary}
        if any(blow == "TRIGGERER" for _, blow in here):
            continue
        killer = "WORKER" if boundary.server == AIRFLOW else "TASK"
        assert here >= {("BEFORE", killer), ("AFTER", killer), ("AFTER", "LOST")}, boundary
