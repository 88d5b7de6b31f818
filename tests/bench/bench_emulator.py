"""How long the emulator takes for the rows of a job, from the bytes of its input to those of its output."""

from __future__ import annotations

import json
import time

from airflow_gemini_batch.emulator.running.rows import Habits, RowProcessor, prediction_line
from airflow_gemini_batch.emulator.running.storage import parse_line
from tests.bench.emitting import emit
from tests.bench.figures import Figure, Report

ROWS = 10_000
LEAST_ROWS_A_SECOND = ROWS / 3
SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "category": {"type": "STRING", "enum": ["web", "data", "testing", "other"]},
        "one_line_summary": {"type": "STRING"},
        "audience": {"type": "STRING"},
        "tags": {"type": "ARRAY", "items": {"type": "STRING"}},
    },
    "required": ["category", "one_line_summary", "audience", "tags"],
}
TEXT = "Name: requests-{}\nSummary: Python HTTP for Humans.\n\n" + "It sends requests to servers. " * 20


def measure() -> Report:
    lines = [
        json.dumps(
            {
                "key": f"k{n}",
                "request": {
                    "contents": [{"role": "user", "parts": [{"text": TEXT.format(n)}]}],
                    "generationConfig": {"responseMimeType": "application/json", "responseSchema": SCHEMA},
                },
            }
        ).encode()
        for n in range(ROWS)
    ]
    rate = ROWS / min(seconds_for(lines) for _ in range(3))
    figure = Figure("rows answered by the emulator", rate, "rows/s", LEAST_ROWS_A_SECOND, more_is_better=True)
    return Report(
        "The emulator of batch jobs", [figure], [], "From the bytes of its input to those of its output."
    )


def seconds_for(lines: list[bytes]) -> float:
    """Return the processor time that it takes to answer lines, from bytes to bytes."""
    habits = Habits()
    process = RowProcessor("gemini-2.5-flash", 0, habits).process
    begun = time.thread_time()
    written = sum(len(prediction_line(process(parse_line(line, habits)))) for line in lines)
    assert written > ROWS * 1000
    return time.thread_time() - begun


if __name__ == "__main__":
    raise SystemExit(emit(measure()))
