"""``python -m tests.crash``: run the matrix, print it, and write it to the documentation."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path

from .airflow_processes import Airflow
from .cells import DAG_IDS, cells
from .matrix import Result, run_cells, table
from .runs import ROWS, create_storage

_BEGIN, _END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
_TABLE = re.compile(f"{re.escape(_BEGIN)}(.*){re.escape(_END)}", re.DOTALL)


def main() -> int:
    """Run the chosen cells; exit code 0 if all of them passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument(
        "--only",
        default="*",
        help="run the cells whose id matches one of these patterns, such as 'create/*,overtime/*'",
    )
    parser.add_argument("--lanes", type=int, default=4, help="number of concurrent runs (default: 4)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=600,
        help="start no further cells after this many minutes (default: 600)",
    )
    parser.add_argument(
        "--write", type=Path, help="the page to write the table to; with --only, replaces only their rows"
    )
    arguments = parser.parse_args()
    patterns = arguments.only.split(",")
    chosen = {
        key: cell for key, cell in cells().items() if any(fnmatch(key, pattern) for pattern in patterns)
    }
    directory = Path(tempfile.mkdtemp(prefix="gemini-batch-crash-"))
    print(f"{len(chosen)} cells; logs in {directory}", flush=True)
    started = time.monotonic()
    with Airflow(directory, pace="reads:2", parallelism=max(16, arguments.lanes), dag_ids=DAG_IDS) as airflow:
        create_storage(airflow)

        def report(result: Result) -> None:
            status = "ok  " if result.is_good else "BAD "
            print(f"{status}{result.seconds:5.0f} s  {result.key}: {result.cell.title}", flush=True)
            if not result.is_good:
                print(f"      {'; '.join(result.verdict.wrong)}", flush=True)
                print(airflow.last_errors(result.key.lower().replace("/", "_").replace("-", "_")), flush=True)

        results = run_cells(
            airflow, chosen, lanes=arguments.lanes, minutes=arguments.minutes, on_result=report
        )
    lines = list(table(results))
    print("\n".join([_summary(lines), "", *lines]))
    print(f"{time.monotonic() - started:.0f} s")
    if arguments.write:
        _write(arguments.write, lines if arguments.only == "*" else _merged(arguments.write, lines))
    return 0 if len(results) == len(chosen) and all(result.is_good for result in results) else 1


def _summary(lines: list[str]) -> str:
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:]]
    jobs, charged, rows, retries = (sum(int(cell[column]) for cell in cells) for column in (4, 5, 6, 7))
    failed = sum(cell[3] != "success" for cell in cells)
    return (
        f"{len(cells)} cells, {failed} failed: {len(cells) * ROWS} rows asked, {charged} charged and {rows} "
        f"in the tables, {jobs} jobs, {retries} retries."
    )


def _merged(file: Path, lines: list[str]) -> list[str]:
    """The table in the page, with the rows of the cells that were run now, in the order of the matrix."""
    written = [line for line in _TABLE.search(file.read_text())[1].splitlines() if line.startswith("|")]
    if written[0] != lines[0]:
        raise SystemExit(f"{file} has the table of an older matrix: run all cells to replace it")
    defined = [
        (cell.boundary.step, f"{cell.when.value} {cell.boundary.name}", cell.failure.value)
        for cell in cells().values()
    ]
    known = {_cell_of(line): line for line in (*written[2:], *lines[2:])}
    return lines[:2] + [known[each] for each in defined if each in known]


def _cell_of(line: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in line.split("|")[1:4])


def _write(file: Path, lines: list[str]) -> None:
    text = "\n".join([_BEGIN, _summary(lines), "", *lines, _END])
    file.write_text(_TABLE.sub(lambda _: text, file.read_text()))


if __name__ == "__main__":
    sys.exit(main())
