"""The process that runs the demo DAG: ``python -m airflow_gemini_batch.local_stack.demo_run DIRECTORY``.

It prepares Airflow's database while the stack starts, waits for ``DIRECTORY/environment.json``, which has the
environment variables of the stack, and runs the DAG with ``dag.test()``. Exit code 0 if the run succeeded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

ENVIRONMENT = "environment.json"
DAG_ID = "gemini_batch_demo"


def _addresses(file: Path, timeout: float = 120.0) -> dict[str, str]:
    deadline = time.monotonic() + timeout
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"The stack did not start within {timeout:.0f} s.")
        time.sleep(0.05)
    addresses: dict[str, str] = json.loads(file.read_text())
    return addresses


def main(directory: Path) -> int:
    """Run the DAG and return the exit code."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    initdb()
    os.environ |= _addresses(directory / ENVIRONMENT)
    bag = DagBag(Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]) / f"{DAG_ID}.py")
    if bag.import_errors:
        raise ImportError("\n".join(bag.import_errors.values()))
    run = bag.dags[DAG_ID].test()
    return 0 if run.state == "success" else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
