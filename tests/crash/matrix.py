"""Run cells: let a run go, strike once, wait for its end, look."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .cells import Blow, Boundary, Cell, When
from .processes import children_of, family_of, kill, parent_of
from .runs import Run, Verdict
from .wire import AnswerLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .airflow_processes import Airflow
    from .wire import Exchange

CELL_SECONDS = 600.0


@dataclass
class Strike:
    """Waits for the request of a cell, and strikes once."""

    cell: Cell
    airflow: Airflow
    has_hit: bool = False
    _matched: int = 0
    _target: Exchange | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, exchange: Exchange) -> None:
        """See a request, before and after the server has it.

        :raises AnswerLost: its answer is to be kept back
        """
        boundary = self.cell.boundary
        with self._lock:
            if self.has_hit or not boundary.matches(exchange):
                return
            if exchange.status:
                wanted = not boundary.answer or re.search(boundary.answer.encode(), exchange.answer)
                if not wanted or (exchange is not self._target and not boundary.answer):
                    return
            else:
                self._matched += 1
                if self._matched == boundary.nth:
                    self._target = exchange
                if exchange is not self._target or self.cell.when is When.AFTER:
                    return
            self.has_hit = True
        self._strike(exchange)
        raise AnswerLost

    def _strike(self, exchange: Exchange) -> None:
        pid = exchange.client.pid
        if self.cell.blow is Blow.TRIGGERER:
            self.airflow.kill_triggerer()
        elif self.cell.blow is Blow.TASK:
            tasks = children_of(pid) if exchange.client.is_worker else [pid]
            kill([each for task in tasks for each in family_of(task)])
        elif self.cell.blow is Blow.WORKER:
            kill(family_of(pid if exchange.client.is_worker else parent_of(pid)))


@dataclass(frozen=True)
class Result:
    """What became of a cell."""

    key: str
    cell: Cell
    verdict: Verdict
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.verdict.wrong


def run_cells(
    airflow: Airflow,
    chosen: Mapping[str, Cell],
    *,
    lanes: int,
    minutes: float = 600,
    seconds: float = CELL_SECONDS,
    told: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Run cells, several at once, every boundary once before any twice.

    All share one triggerer: a run that waits lives through the blows to it that are meant for others, too.

    :param minutes: after which no further cell is begun
    :param seconds: after which a run that has not ended is wrong
    """
    results = {}
    deadline = time.monotonic() + minutes * 60

    def run(key: str) -> None:
        if time.monotonic() > deadline:
            return
        results[key] = run_cell(airflow, key, chosen[key], seconds)
        told(results[key])

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(run, in_turn(chosen)))
    return [results[key] for key in chosen if key in results]


def in_turn(chosen: Mapping[str, Cell]) -> list[str]:
    """The cells, first those that may do most harm: it was done, and who asked for it does not know."""
    blows = (Blow.LOST, Blow.TASK, Blow.TRIGGERER, Blow.WORKER)
    ranked = sorted(chosen, key=lambda key: (chosen[key].when is When.BEFORE, blows.index(chosen[key].blow)))
    turns: Counter[Boundary] = Counter()
    order = {}
    for key in ranked:
        turns[chosen[key].boundary] += 1
        order[key] = turns[chosen[key].boundary]
    return sorted(ranked, key=order.__getitem__)


def run_cell(airflow: Airflow, key: str, cell: Cell, seconds: float) -> Result:
    """Run one cell."""
    run = Run(airflow, cell.boundary.dag_id, re.sub(r"\W", "_", key.lower()))
    strike = airflow.wire.watchers[run.name] = Strike(cell, airflow)
    began = time.monotonic()
    run.start()
    run.wait(seconds)
    verdict = run.check()
    if not strike.has_hit:
        verdict = Verdict(**{**vars(verdict), "wrong": (*verdict.wrong, "the request never came")})
    return Result(key, cell, verdict, time.monotonic() - began)


def table(results: list[Result]) -> Iterator[str]:
    """The matrix as a table of Markdown, a line each."""
    yield "| step | when | what is done | run | jobs paid | rows | retries |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for result in results:
        cell, verdict = result.cell, result.verdict
        ended = verdict.state if result.is_good else f"**{'; '.join(verdict.wrong)}**"
        yield (
            f"| {cell.boundary.step} | {cell.when.value} {cell.boundary.name} | {cell.blow.value} | {ended} "
            f"| {verdict.jobs} | {verdict.rows} | {verdict.retries} |"
        )
