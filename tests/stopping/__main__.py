"""``python -m tests.stopping``: stop tasks that wait, in every way, and see what becomes of their jobs."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from .airflow import MAJOR, VERSION, Airflow
from .cells import CELLS, Cell, Event, Fate

# Of each state, PENDING and RUNNING. Long enough for every event, and for the next try to attach to the job.
_JOB_SECONDS = 90
_PATIENCE = 480.0
_BEGIN, _END = f"<!-- airflow {MAJOR}: begin -->", f"<!-- airflow {MAJOR}: end -->"


class Observer:
    """Watches the task and the jobs of one cell, and acts when its task waits."""

    def __init__(self, airflow: Airflow, cell: Cell) -> None:
        self._airflow, self._cell = airflow, cell
        self._has_acted = False
        self.seen: list[str] = []
        self.fate = Fate.UNDECIDED

    def run(self) -> None:
        """Start the run, and look until it and its job have ended."""
        self._airflow.trigger([self._cell.dag_id])
        deadline = time.monotonic() + _PATIENCE
        while self.fate is Fate.UNDECIDED and time.monotonic() < deadline:
            self._look()
            time.sleep(0.5)
        last = self.seen[-1]
        if self.fate is Fate.UNDECIDED and last.startswith(("failed", "skipped", "success")):
            # The task has been over for minutes, and its job goes on.
            self.fate = Fate.KEPT if last.endswith("jobs RUNNING") else Fate.UNDECIDED

    def _look(self) -> None:
        (state, try_number), jobs = (
            self._airflow.task(self._cell.dag_id),
            self._airflow.jobs(self._cell.dag_id),
        )
        states = [job["state"].removeprefix("JOB_STATE_") for job in jobs]
        now = f"{state} (try {try_number}), jobs {' '.join(states) or 'none'}"
        if not self.seen or self.seen[-1] != now:
            self.seen.append(now)
        waits = state == ("deferred" if self._cell.deferrable else "running")
        if self._cell.event.is_done_by_a_user and not self._has_acted and waits and states == ["RUNNING"]:
            self._airflow.do(self._cell.event, self._cell.dag_id)
            self._has_acted = True
        is_over = state in ("success", "failed", "skipped") and not set(states) & {
            "PENDING",
            "RUNNING",
            "CANCELLING",
        }
        if state in ("success", "failed", "skipped") and states == ["CANCELLING"]:
            self.fate = Fate.CANCELLED
        if is_over and states:
            self.fate = _fate(self._cell, states, state == "success", self._tries)

    @property
    def _tries(self) -> int:
        """How often the task has begun to wait."""
        waiting = ("deferred" if self._cell.deferrable else "running") + " "
        return len(
            {line.partition(",")[0] for line in self.seen if line.startswith(waiting) and "none" not in line}
        )


def _fate(cell: Cell, states: list[str], is_success: bool, tries: int) -> Fate:
    if len(states) > 1:
        return Fate.PAID_AGAIN
    if states == ["CANCELLED"]:
        return Fate.CANCELLED
    if is_success and cell.event is not Event.MARK_SUCCESS:
        return Fate.ATTACHED if tries > 1 else Fate.UNAFFECTED
    return Fate.KEPT


def main() -> int:
    """Observe all cells, write the table if asked, and compare; exit code 0 if all are as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.stopping", description=__doc__)
    parser.add_argument("--write", type=Path, help="the page to write the table of this Airflow to")
    parser.add_argument(
        "--only", nargs="+", default=["*"], help="observe the cells whose DAG matches one of these"
    )
    parser.add_argument("--lanes", type=int, default=5, help="number of concurrent cells (default: 5)")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="gemini-batch-stopping-"))
    chosen = [cell for cell in CELLS if any(fnmatch(cell.dag_id, pattern) for pattern in arguments.only)]
    print(f"Airflow {VERSION}, {len(chosen)} cells; logs in {directory}", flush=True)
    with Airflow(directory, pace=f"seconds:{_JOB_SECONDS}") as airflow:
        observers = {cell: Observer(airflow, cell) for cell in chosen}
        with ThreadPoolExecutor(arguments.lanes) as pool:
            wrong = sum(not is_good for is_good in pool.map(_observe, observers.items()))
    fates = {cell: str(observer.fate) for cell, observer in observers.items()}
    print("\n".join(_table(fates)))
    if arguments.write:
        _write(arguments.write, fates)
    return 1 if wrong else 0


def _observe(of_cell: tuple[Cell, Observer]) -> bool:
    cell, observer = of_cell
    observer.run()
    is_good = observer.fate is cell.expected[MAJOR]
    print(f"{'ok ' if is_good else 'BAD'} {cell.dag_id}: {observer.fate}", flush=True)
    if not is_good:
        print(f"    expected: {cell.expected[MAJOR]}\n    seen: {'; '.join(observer.seen)}", flush=True)
    return is_good


def _table(fates: dict[Cell, str]) -> list[str]:
    lines = ["| what happens | task waits on a worker | task waits in the triggerer |", "| --- | --- | --- |"]
    for event in Event:
        worker, triggerer = (cell for cell in CELLS if cell.event is event)
        columns = (fates.get(cell, str(Fate.UNDECIDED)) for cell in (worker, triggerer))
        lines.append(f"| {event.value} | {' | '.join(columns)} |")
    return lines


def _write(file: Path, fates: dict[Cell, str]) -> None:
    """Write the table; cells that were not observed this time keep what the page says."""
    table = re.compile(f"{re.escape(_BEGIN)}(.*){re.escape(_END)}", re.DOTALL)
    page = file.read_text()
    rows = [
        line.strip("| ").split(" | ") for line in table.search(page)[1].splitlines() if line.startswith("| ")
    ]
    written = {row[0]: row[1:] for row in rows}
    before = {
        cell: written[cell.event.value][cell.deferrable] for cell in CELLS if cell.event.value in written
    }
    text = "\n".join([_BEGIN, f"Airflow {VERSION}:", "", *_table({**before, **fates}), _END])
    file.write_text(table.sub(lambda _: text, page))


if __name__ == "__main__":
    sys.exit(main())
