"""What parsing a DAG file pays for our operators and for those of peers, over importing ``BaseOperator``."""

from __future__ import annotations

import subprocess
import sys

from tests.bench.emitting import SHORT, emit
from tests.bench.figures import Figure, Report

TARGET_MS = 20.0
RUNS = 3 if SHORT else 15
# Peers that take seconds need no more turns to be told apart.
SLOW_MS, TURNS_OF_SLOW = 500.0, 2
OURS = "airflow_gemini_batch.operators.gemini_batch"
OTHERS_OF_OURS = ("airflow_gemini_batch.sensors.gemini_batch", "airflow_gemini_batch.triggers.gemini_batch")
PEERS = {
    "common-ai, LLMBatchOperator": "airflow.providers.common.ai.operators.llm_batch",
    "anthropic, batch operators": "airflow.providers.anthropic.operators.batch",
    "google, Gemini operators": "airflow.providers.google.cloud.operators.gen_ai",
}
SCRIPT = """
from airflow.providers.common.compat.sdk import BaseOperator; BaseOperator
import gc, importlib, time
gc.disable()
begun = time.perf_counter()
importlib.import_module({module!r})
print((time.perf_counter() - begun) * 1000)
"""


def milliseconds(module: str) -> float:
    command = [sys.executable, "-c", SCRIPT.format(module=module)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(run.stdout.splitlines()[-1])


def measure() -> Report:
    # In turns, so that other work on the machine slows all alike. The least is what the import itself takes.
    least: dict[str, float] = {}
    for turn in range(RUNS):
        for module in (OURS, *OTHERS_OF_OURS, *PEERS.values()):
            if turn < TURNS_OF_SLOW or least[module] < SLOW_MS:
                least[module] = min(milliseconds(module), least.get(module, float("inf")))
    figures = [
        Figure("import of the operators", least[OURS], "ms", TARGET_MS, peer=peer, peer_value=least[module])
        for peer, module in PEERS.items()
    ]
    figures += [Figure(f"import of `{module}`", least[module], "ms", TARGET_MS) for module in OTHERS_OF_OURS]
    note = (
        f"Over `BaseOperator`, which every DAG file imports; the least of {RUNS} runs. The garbage collector "
        "is off: its turn would fall on whichever module is imported when it is due."
    )
    return Report("Import of DAG files", figures, [], note)


if __name__ == "__main__":
    raise SystemExit(emit(measure()))
