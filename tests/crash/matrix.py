"""Runs cells: start a run, inject one failure, wait until the run ends, check the results."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .cells import SLOW, SUBMIT, Boundary, Cell, Failure, When
from .processes import children_of, family_of, kill, parent_of
from .runs import Run, Verdict
from .wire import ResponseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .airflow_processes import Airflow
    from .wire import Exchange

CELL_SECONDS = 600.0
LATE_SECONDS = 40.0
"""How long a create call stalls in the service: 30 to 45 seconds were seen."""
_LOOK_UP = SUBMIT["look-up"]


@dataclass
class FailureInjector:
    """Waits for the request of a cell, and injects its failure once."""

    cell: Cell
    airflow: Airflow
    has_fired: bool = False
    _matched: int = 0
    _target: Exchange | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _looked: threading.Event = field(default_factory=threading.Event)

    def __call__(self, exchange: Exchange) -> None:
        """Called for each request, before and after the server processes it.

        :raises ResponseLost: the client must not get the response
        """
        boundary = self.cell.boundary
        if self.has_fired and _LOOK_UP.matches(exchange):
            self._looked.set()
        with self._lock:
            if self.has_fired or not boundary.matches(exchange):
                return
            if exchange.status:
                matches = not boundary.response or re.search(boundary.response.encode(), exchange.response)
                if not matches or (exchange is not self._target and not boundary.response):
                    return
            else:
                self._matched += 1
                if self._matched == boundary.nth:
                    self._target = exchange
                if exchange is not self._target or self.cell.when is When.AFTER:
                    return
            self.has_fired = True
        self._inject(exchange)
        if self.cell.failure is Failure.OVERTIME:
            return  # A listener of the DAG does the rest.
        if self.cell.failure.is_late:
            # Not before the next try looks, which may start late on a busy machine.
            killed = time.monotonic()
            self._looked.wait(LATE_SECONDS * 5)
            time.sleep(max(killed + LATE_SECONDS - time.monotonic(), LATE_SECONDS / 2))
            return
        raise ResponseLost

    def _inject(self, exchange: Exchange) -> None:
        pid = exchange.client.pid
        if self.cell.failure is Failure.TRIGGERER:
            self.airflow.kill_triggerer()
        elif self.cell.failure in (Failure.TASK, Failure.STALLED):
            tasks = children_of(pid) if exchange.client.is_worker else [pid]
            kill([each for task in tasks for each in family_of(task)])
        elif self.cell.failure in (Failure.WORKER, Failure.STALLED_WORKER):
            kill(family_of(pid if exchange.client.is_worker else parent_of(pid)))


@dataclass(frozen=True)
class Result:
    """The result of a cell."""

    key: str
    cell: Cell
    verdict: Verdict
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether the checks of the run passed."""
        return not self.verdict.wrong


def run_cells(
    airflow: Airflow,
    chosen: Mapping[str, Cell],
    *,
    lanes: int,
    minutes: float = 600,
    seconds: float = CELL_SECONDS,
    on_result: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Run cells concurrently: one cell of each boundary first, then the others.

    All runs share one triggerer, so a waiting run also meets triggerer failures injected for other runs.

    :param minutes: after which no further cell is started
    :param seconds: after which a run that has not ended fails
    """
    results = {}
    deadline = time.monotonic() + minutes * 60

    def run(key: str) -> None:
        if time.monotonic() > deadline:
            return
        results[key] = run_cell(airflow, key, chosen[key], seconds)
        on_result(results[key])

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(run, in_order(chosen)))
    return [results[key] for key in chosen if key in results]


def in_order(chosen: Mapping[str, Cell]) -> list[str]:
    """Order cells by risk: first those where the server acted and the client does not know."""
    failures = list(Failure)
    ranked = sorted(
        chosen, key=lambda key: (chosen[key].when is When.BEFORE, failures.index(chosen[key].failure))
    )
    counts: Counter[Boundary] = Counter()
    order = {}
    for key in ranked:
        counts[chosen[key].boundary] += 1
        order[key] = counts[chosen[key].boundary]
    return sorted(ranked, key=order.__getitem__)


def run_cell(airflow: Airflow, key: str, cell: Cell, seconds: float) -> Result:
    """Run one cell."""
    run = Run(airflow, cell.boundary.dag_id, re.sub(r"\W", "_", key.lower()))
    injector = airflow.wire.watchers[run.name] = FailureInjector(cell, airflow)
    if cell.boundary.dag_id == SLOW:
        airflow.wire.slow.add(run.name)
    started = time.monotonic()
    run.start()
    run.wait(seconds)
    verdict = run.check()
    if not injector.has_fired:
        verdict = Verdict(**{**vars(verdict), "wrong": (*verdict.wrong, "the request was never sent")})
    return Result(key, cell, verdict, time.monotonic() - started)


def table(results: list[Result]) -> Iterator[str]:
    """The matrix as lines of a Markdown table."""
    yield "| step | when | failure | run | jobs | charged | rows | retries |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for result in results:
        cell, verdict = result.cell, result.verdict
        outcome = verdict.state if result.is_good else f"**{'; '.join(verdict.wrong)}**"
        yield (
            f"| {cell.boundary.step} | {cell.when.value} {cell.boundary.name} | {cell.failure.value} "
            f"| {outcome} | {verdict.jobs} | {verdict.charged} | {verdict.rows} | {verdict.retries} |"
        )
