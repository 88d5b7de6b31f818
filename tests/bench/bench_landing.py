"""Landing 200,000 lines of 2 KB on the local stack: rows a second, the worker's memory, and its downloads.

Twice: with the 3 typed columns of a small answer, and with 20 of every kind.
``python tests/bench/bench_landing.py [ROWS [COLUMNS]]``
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from airflow_gemini_batch.local_stack.stack import PROJECT, LocalStack
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_gemini_batch.local_stack.stack import StackAddresses

ROWS = 200_000
MIN_ROWS_PER_SECOND = 10_000
MAX_GROWTH_MB = 15
WORDS = ["batch", "gemini", "vertex", "table", "column", "airflow", "operator", "trigger", "dataset"]
COLUMNS = (3, 20)
SMALL = {
    "category": {"type": "STRING", "enum": ["tool", "library"]},
    "one_line_summary": {"type": "STRING"},
    "audience": {"type": "STRING"},
}
LARGE = {
    **SMALL,
    "released_on": {"type": "STRING", "format": "date"},
    "seen_at": {"type": "STRING", "format": "date-time"},
    "topics": {"type": "ARRAY", "items": {"type": "STRING"}},
    "sizes": {"type": "ARRAY", "items": {"type": "INTEGER"}},
    "detail": {"type": "OBJECT", "properties": {"depth": {"type": "INTEGER"}}},
    **{f"name_{n}": {"type": "STRING"} for n in range(4)},
    **{f"count_{n}": {"type": "INTEGER"} for n in range(3)},
    **{f"score_{n}": {"type": "NUMBER"} for n in range(3)},
    **{f"sure_{n}": {"type": "BOOLEAN"} for n in range(2)},
}
PROPERTIES = {len(each): each for each in (SMALL, LARGE)}


def schema(columns: int) -> dict[str, Any]:
    properties = PROPERTIES[columns]
    return {"type": "OBJECT", "properties": properties, "required": list(properties)}


def answer(dice: random.Random, columns: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "category": "tool",
        "one_line_summary": text(dice, 90),
        "audience": text(dice, 30),
    }
    made |= {"released_on": "2026-11-01", "seen_at": "2026-11-01T10:00:00Z", "topics": ["a", "b", "c"]}
    made |= {"sizes": [1, 2, 3], "detail": {"depth": 1}}
    made |= {f"name_{n}": text(dice, 14) for n in range(4)} | {f"count_{n}": n for n in range(3)}
    made |= {f"score_{n}": dice.random() for n in range(3)} | {f"sure_{n}": True for n in range(2)}
    return {name: made[name] for name in PROPERTIES[columns]}


def text(dice: random.Random, length: int) -> str:
    return " ".join(dice.choices(WORDS, k=length // 7))


def write(directory: Path, rows: int, columns: int) -> None:
    """Input and output of a job, the output in another order, its lines of 2 KB on the average."""
    dice = random.Random(1)
    config = {"responseMimeType": "application/json", "responseSchema": schema(3)}
    order = list(range(rows))
    dice.shuffle(order)
    requests = {}
    with (directory / "input").open("w") as given:
        for number in range(rows):
            parts = [{"text": f"Classify package {number}: {text(dice, 1050)}"}]
            request = {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}
            requests[number] = json.dumps(request)
            given.write(f'{{"key": "r{number}", "request": {requests[number]}}}\n')
    with (directory / "output").open("w") as output:
        for number in order:
            candidate = {
                "content": {"role": "model", "parts": [{"text": json.dumps(answer(dice, columns))}]},
                "finishReason": "STOP",
            }
            usage = {"promptTokenCount": 250, "candidatesTokenCount": 40, "totalTokenCount": 290}
            response = {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "usageMetadata": usage}
            output.write(
                f'{{"request": {requests[number]}, "status": "", "response": {json.dumps(response)}, '
                f'"processed_time": "2026-11-01T18:13:16.826+00:00", "key": "r{number}"}}\n'
            )


def worker(rows: int, columns: int) -> None:
    """Land, in a process of its own, and print what it took."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.requests.response_schema import ResponseSchema
    from airflow_gemini_batch.results.landing import LandingRequest, land

    place = f"{rows}x{columns}"
    job = BatchJob(
        JobName(PROJECT, "us-central1", place),
        JobState.SUCCEEDED,
        model="publishers/google/models/gemini-2.5-flash",
        input_uris=(f"gs://bench/{place}/input.jsonl",),
        output_location=f"gs://bench/{place}/prediction-model-2026-11-01T00:00:00.000000Z",
    )
    request = LandingRequest(
        job,
        TableName(PROJECT, "bench", f"rows_{place}"),
        TableName(PROJECT, "bench", f"rows_{place}_errors"),
        RunIdentity("bench", "land", "1"),
        ResponseSchema.of(schema(columns)),
    )
    clients = {
        "bigquery": bigquery.Client(PROJECT, AnonymousCredentials()),
        "storage": storage.Client(PROJECT, AnonymousCredentials()),
    }
    # What importing took at its height is no concern here.
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    manifest = land(request, **clients)
    seconds = time.perf_counter() - start
    assert manifest.rows == rows
    print(json.dumps([seconds, peak_memory()]))


def peak_memory() -> float:
    """Of this process, in MB; ``ru_maxrss`` would count what the parent had when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def prepare(rows: int, columns: int, directory: Path) -> int:
    """Put a job's input and output into storage; return the mean length of a line of output."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    write(directory, rows, columns)
    bucket = storage.Client(PROJECT, AnonymousCredentials()).bucket("bench")
    if not bucket.exists():
        bucket.create()
    folder = f"{rows}x{columns}"
    output = f"{folder}/prediction-model-2026-11-01T00:00:00.000000Z/predictions.jsonl"
    for name, place in (("input", f"{folder}/input.jsonl"), ("output", output)):
        bucket.blob(place).upload_from_filename(str(directory / name))
    return (directory / "output").stat().st_size // rows


def measure(rows: int, columns: int, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds, and the worker's peak memory in MB."""
    command = [sys.executable, __file__, "--worker", str(rows), str(columns)]
    given = {**os.environ, **environment}
    # A worker has the bytecode of what it imports; compiling it anew would be measured, too.
    given.pop("PYTHONDONTWRITEBYTECODE", None)
    run = subprocess.run(command, check=True, capture_output=True, env=given)
    seconds, memory = json.loads(run.stdout.splitlines()[-1])
    return seconds, memory


def main(rows: int, several: Sequence[int]) -> int:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), vertex_url="") as stack:
        os.environ["STORAGE_EMULATOR_HOST"] = stack.storage_url
        os.environ["BIGQUERY_EMULATOR_HOST"] = stack.bigquery_url
        bigquery.Client(PROJECT, AnonymousCredentials()).create_dataset("bench")
        good = []
        for columns in several:
            length = [prepare(count, columns, Path(folder)) for count in (1000, rows)][-1]
            good.append(land_watched(rows, columns, length, stack))
    return 0 if all(good) or rows != ROWS else 1


def land_watched(rows: int, columns: int, length: int, stack: StackAddresses) -> bool:
    """Land, print what it took, and say whether that is good."""
    with Recorder(stack.storage_url) as objects, Recorder(stack.bigquery_url) as queries:
        watched = {"STORAGE_EMULATOR_HOST": objects.url, "BIGQUERY_EMULATOR_HOST": queries.url}
        _, small = measure(1000, columns, watched)
        seconds, large = measure(rows, columns, watched)
        downloads = sum(seen.is_download for seen in objects.seen)
        received = sum(seen.answer_bytes for seen in (*objects.seen, *queries.seen))
    rate, growth = rows / seconds, large - small
    print(
        f"landed {rows:,} lines of {length:,} bytes, {columns} typed columns, in {seconds:.1f} s: "
        f"{rate:,.0f} rows a second"
    )
    print(f"peak memory of the worker: {small:.1f} MB for 1,000 lines, {growth:+.1f} MB for {rows:,}")
    print(f"the worker made {downloads} downloads and received {received / 1024:.0f} KB in all", flush=True)
    return rate >= MIN_ROWS_PER_SECOND and growth < MAX_GROWTH_MB and not downloads


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(int(sys.argv[2]), int(sys.argv[3]))
    else:
        given = [int(argument) for argument in sys.argv[1:]]
        raise SystemExit(main(given[0] if given else ROWS, given[1:] or COLUMNS))
