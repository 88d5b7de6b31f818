"""Landing 200,000 lines of 2 KB on the local stack: rows a second, the worker's memory, and its downloads.

``python tests/bench_landing.py [ROWS]``
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

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "results")]

from recorder import Recorder  # noqa: E402

from airflow_gemini_batch.emulator.stack import PROJECT, LocalStack  # noqa: E402

ROWS = 200_000
MIN_ROWS_PER_SECOND = 15_000
MAX_GROWTH_MB = 15
WORDS = ["batch", "gemini", "vertex", "table", "column", "airflow", "operator", "trigger", "dataset"]
SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "category": {"type": "STRING", "enum": ["tool", "library"]},
        "one_line_summary": {"type": "STRING"},
        "audience": {"type": "STRING"},
    },
    "required": ["category", "one_line_summary", "audience"],
}


def text(dice: random.Random, length: int) -> str:
    return " ".join(dice.choices(WORDS, k=length // 7))


def write(directory: Path, rows: int) -> None:
    """Input and output of a job, the output in another order, its lines of 2 KB on the average."""
    dice = random.Random(1)
    config = {"responseMimeType": "application/json", "responseSchema": SCHEMA}
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
            answer = {"category": "tool", "one_line_summary": text(dice, 90), "audience": text(dice, 30)}
            candidate = {
                "content": {"role": "model", "parts": [{"text": json.dumps(answer)}]},
                "finishReason": "STOP",
            }
            usage = {"promptTokenCount": 250, "candidatesTokenCount": 40, "totalTokenCount": 290}
            response = {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "usageMetadata": usage}
            output.write(
                f'{{"request": {requests[number]}, "status": "", "response": {json.dumps(response)}, '
                f'"processed_time": "2026-11-01T18:13:16.826+00:00", "key": "r{number}"}}\n'
            )


def worker(rows: int) -> None:
    """Land, in a process of its own, and print what it took."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.requests.response_schema import ResponseSchema
    from airflow_gemini_batch.results.landing import LandingRequest, land
    from airflow_gemini_batch.tables import TableName

    job = BatchJob(
        JobName(PROJECT, "us-central1", str(rows)),
        JobState.SUCCEEDED,
        model="publishers/google/models/gemini-2.5-flash",
        input_uris=(f"gs://bench/{rows}/input.jsonl",),
        output_location=f"gs://bench/{rows}/prediction-model-2026-11-01T00:00:00.000000Z",
    )
    request = LandingRequest(
        job,
        TableName(PROJECT, "bench", f"rows_{rows}"),
        TableName(PROJECT, "bench", f"rows_{rows}_errors"),
        RunIdentity("bench", "land", "1"),
        ResponseSchema.of(SCHEMA),
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


def prepare(rows: int, directory: Path) -> int:
    """Put a job's input and output into storage; return the mean length of a line of output."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    write(directory, rows)
    bucket = storage.Client(PROJECT, AnonymousCredentials()).bucket("bench")
    if not bucket.exists():
        bucket.create()
    output = f"{rows}/prediction-model-2026-11-01T00:00:00.000000Z/predictions.jsonl"
    for name, place in (("input", f"{rows}/input.jsonl"), ("output", output)):
        bucket.blob(place).upload_from_filename(str(directory / name))
    return (directory / "output").stat().st_size // rows


def measure(rows: int, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds, and the worker's peak memory in MB."""
    command = [sys.executable, __file__, "--worker", str(rows)]
    run = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    seconds, memory = json.loads(run.stdout.splitlines()[-1])
    return seconds, memory


def main(rows: int) -> int:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), vertex_url="") as stack:
        os.environ["STORAGE_EMULATOR_HOST"] = stack.storage_url
        os.environ["BIGQUERY_EMULATOR_HOST"] = stack.bigquery_url
        bigquery.Client(PROJECT, AnonymousCredentials()).create_dataset("bench")
        length = [prepare(count, Path(folder)) for count in (1000, rows)][-1]
        with Recorder(stack.storage_url) as objects, Recorder(stack.bigquery_url) as queries:
            watched = {"STORAGE_EMULATOR_HOST": objects.url, "BIGQUERY_EMULATOR_HOST": queries.url}
            _, small = measure(1000, watched)
            seconds, large = measure(rows, watched)
            downloads = sum(seen.is_download for seen in objects.seen)
            received = sum(seen.answer_bytes for seen in (*objects.seen, *queries.seen))
    rate, growth = rows / seconds, large - small
    print(f"landed {rows:,} lines of {length:,} bytes in {seconds:.1f} s: {rate:,.0f} rows a second")
    print(f"peak memory of the worker: {small:.1f} MB for 1,000 lines, {growth:+.1f} MB for {rows:,}")
    print(f"the worker made {downloads} downloads and received {received / 1024:.0f} KB in all")
    good = rate >= MIN_ROWS_PER_SECOND and growth < MAX_GROWTH_MB and not downloads
    return 0 if good or rows != ROWS else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(int(sys.argv[2]))
    else:
        raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
