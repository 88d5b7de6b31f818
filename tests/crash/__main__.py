"""``python -m tests.crash``: run the matrix, print it, and keep it in the documentation."""

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
from .runs import ROWS, lay_out

_BEGIN, _END = "<!-- matrix: begin -->", "<!-- matrix: end -->"


def main() -> int:
    """Run what is asked for; the exit code says whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--only", default="*", help="cells whose id fits this pattern, such as 'create/*'")
    parser.add_argument("--lanes", type=int, default=4, help="how many runs at once (default: 4)")
    parser.add_argument("--minutes", type=float, default=600, help="begin no further cell after so long")
    parser.add_argument("--write", type=Path, help="the file that keeps the table")
    arguments = parser.parse_args()
    chosen = {key: cell for key, cell in cells().items() if fnmatch(key, arguments.only)}
    directory = Path(tempfile.mkdtemp(prefix="gemini-batch-crash-"))
    print(f"{len(chosen)} cells; logs in {directory}", flush=True)
    began = time.monotonic()
    with Airflow(directory, pace="reads:2", parallelism=max(16, arguments.lanes), dag_ids=DAG_IDS) as airflow:
        lay_out(airflow)

        def tell(result: Result) -> None:
            mark = "ok  " if result.is_good else "BAD "
            print(f"{mark}{result.seconds:5.0f} s  {result.key}: {result.cell.title}", flush=True)
            if not result.is_good:
                print(f"      {'; '.join(result.verdict.wrong)}", flush=True)
                print(airflow.last_words(result.key.lower().replace("/", "_").replace("-", "_")), flush=True)

        results = run_cells(airflow, chosen, lanes=arguments.lanes, minutes=arguments.minutes, told=tell)
    text = "\n".join([_summary(results), "", *table(results)])
    print(text)
    print(f"{time.monotonic() - began:.0f} s")
    if arguments.write:
        _keep(arguments.write, text)
    return 0 if len(results) == len(chosen) and all(result.is_good for result in results) else 1


def _summary(results: list[Result]) -> str:
    verdicts = [result.verdict for result in results]
    paid = sum(verdict.jobs for verdict in verdicts)
    rows = sum(verdict.rows for verdict in verdicts)
    retries = sum(verdict.retries for verdict in verdicts)
    wrong = sum(not result.is_good for result in results)
    return (
        f"{len(results)} cells, {wrong} of them wrong: {len(results)} jobs wanted and {paid} paid, "
        f"{len(results) * ROWS} rows wanted and {rows} in the tables, {retries} retries."
    )


def _keep(file: Path, text: str) -> None:
    pattern = re.compile(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", re.DOTALL)
    file.write_text(pattern.sub(lambda _: f"{_BEGIN}\n{text}\n{_END}", file.read_text()))


if __name__ == "__main__":
    sys.exit(main())
