"""What parsing a DAG file pays for our operators, over importing ``BaseOperator`` alone."""

from __future__ import annotations

import statistics
import subprocess
import sys

LIMIT_MS = 50
RUNS = 7
BASE = "from airflow.providers.common.compat.sdk import BaseOperator; BaseOperator\n"
SCRIPT = BASE + (
    "import time; t = time.perf_counter()\n"
    "import airflow_gemini_batch.{face}.gemini_batch\n"
    "print((time.perf_counter() - t) * 1000)"
)


def milliseconds(face: str) -> float:
    script = SCRIPT.format(face=face)
    runs = [
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True) for _ in range(RUNS)
    ]
    return statistics.median(float(run.stdout.splitlines()[-1]) for run in runs)


def main() -> int:
    worst = 0.0
    for face in ("operators", "sensors", "triggers"):
        cost = milliseconds(face)
        worst = max(worst, cost)
        print(f"import airflow_gemini_batch.{face}.gemini_batch: {cost:.1f} ms over BaseOperator")
    return 0 if worst <= LIMIT_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
