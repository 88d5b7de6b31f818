"""Landing lines of 2 KB on the local stack: rows a second, the worker's memory, and its downloads.

With the 3 typed columns of a small answer, and with 20 of every kind; beside loads alone, and beside readers
that take each line through the worker.
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
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.local_stack.stack import PROJECT, LocalStack
from tests.bench import peers
from tests.bench.emitting import SHORT, emit, sizes
from tests.bench.figures import Figure, Growth, Report
from tests.bench.memory import peak_mb
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.cloud import bigquery

    from airflow_gemini_batch.local_stack.stack import StackAddresses

ROWS = 10_000 if SHORT else 100_000
LEAST_ROWS_A_SECOND = 15_000.0
MOST_GROWTH_MB = 15.0
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
        (job,),
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
    (manifest,) = land(request, **clients)
    seconds = time.perf_counter() - start
    assert manifest.rows == rows
    print(json.dumps([seconds, peak_mb()]))


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


def run_alone(*arguments: object, environment: dict[str, str] | None = None) -> list[float]:
    """Run a part of this script in a process of its own; return seconds and peak memory in MB."""
    command = [sys.executable, "-m", "tests.bench.bench_landing", *map(str, arguments)]
    given = {**os.environ, **(environment or {})}
    run = subprocess.run(command, check=True, capture_output=True, env=given)
    seconds, memory = json.loads(run.stdout.splitlines()[-1])
    return [seconds, memory]


def report() -> Report:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    growth: dict[str, list[tuple[float, float]]] = {}
    memory: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), vertex_url="") as stack:
        os.environ["STORAGE_EMULATOR_HOST"] = stack.storage_url
        os.environ["BIGQUERY_EMULATOR_HOST"] = stack.bigquery_url
        client = bigquery.Client(PROJECT, AnonymousCredentials())
        client.create_dataset("bench")
        figures = []
        for columns in COLUMNS:
            for rows in sizes(ROWS):
                prepare(rows, columns, Path(folder))
                begun = datetime.now(UTC)
                seconds, peak, downloads, received = land_watched(rows, columns, stack)
                growth.setdefault(f"landing, {columns} columns", []).append((rows, seconds))
                memory.setdefault(f"landing, {columns} columns", []).append((rows, peak))
            rate, profile = rows / seconds, jobs_since(client, begun, seconds)
            beside = loads(client, rows, columns) | readers(rows, columns, Path(folder), growth, memory)
            for peer, other in beside.items():
                target = LEAST_ROWS_A_SECOND
                figure = Figure(f"land, {columns} typed columns", rate, "rows/s", target, True, peer, other)
                figures.append(replace(figure, profile=profile) if figure.is_worse_than_peer else figure)
                # It is the same for all peers.
                profile = profile if figures[-1].profile == "" else ""
            figures += [
                Figure(f"downloads of the worker, {columns} columns", downloads, "objects", 0.0),
                Figure(f"received by the worker, {columns} columns", received / 1024, "KB"),
                Figure(
                    f"memory of the worker, from 1,000 to {rows:,} rows, {columns} columns",
                    memory[f"landing, {columns} columns"][-1][1]
                    - memory[f"landing, {columns} columns"][0][1],
                    "MB more",
                    MOST_GROWTH_MB,
                ),
            ]
    note = (
        "Lines of 2 KB, on the local stack, whose BigQuery is one process on the same machine. A load "
        "alone makes no typed columns, joins nothing and judges no row; a reader leaves its rows in the "
        "worker or in a file, not in a table."
    )
    pictures = [
        Growth("landing-seconds", "Seconds to land or read results", "s", growth),
        Growth("landing-memory", "Peak memory of the worker", "MB", memory),
    ]
    return Report("Landing results", figures, pictures, note)


def land_watched(rows: int, columns: int, stack: StackAddresses) -> tuple[float, float, int, int]:
    """Land, and return seconds, peak memory in MB, the number of downloads, and the bytes received."""
    with Recorder(stack.storage_url) as objects, Recorder(stack.bigquery_url) as queries:
        watched = {"STORAGE_EMULATOR_HOST": objects.url, "BIGQUERY_EMULATOR_HOST": queries.url}
        seconds, memory = run_alone("--worker", rows, columns, environment=watched)
        downloads = sum(seen.is_download for seen in objects.seen)
        received = sum(seen.answer_bytes for seen in (*objects.seen, *queries.seen))
    return seconds, memory, downloads, received


def jobs_since(client: bigquery.Client, begun: datetime, seconds: float) -> str:
    """Return how long each job of a landing took in BigQuery, and what was left for the worker."""
    lines = []
    for job in sorted(client.list_jobs(min_creation_time=begun), key=lambda job: job.started):
        took = (job.ended - job.started).total_seconds()
        # The name of a job without the digest and the number of its try; others have a random name.
        name = re.sub(r"_staging_[0-9a-f]+|-[0-9a-f]{24}|-\d+$", "", job.job_id)
        name = name if name.startswith("gemini-batch") else "statement before"
        lines.append(f"{took / seconds:5.0%} {took:8.2f} s  {job.job_type} {name}")
    return "\n".join([*lines, f"of  {seconds:8.2f} s  in all, loads side by side"])


def loads(client: bigquery.Client, rows: int, columns: int) -> dict[str, float]:
    """Return rows a second of the load of Google's operator, and of our staging."""
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.results.outputs import Objects
    from airflow_gemini_batch.results.staging import Staged, stage

    folder = f"gs://bench/{rows}x{columns}"
    output = f"{folder}/prediction-model-2026-11-01T00:00:00.000000Z/predictions.jsonl"
    begun = time.perf_counter()
    client.load_table_from_uri(
        output, f"{PROJECT}.bench.peer_{rows}x{columns}", job_config=load_of_google(output)
    ).result()
    rates = {"GCSToBigQueryOperator, the load alone": rows / (time.perf_counter() - begun)}
    places = {
        TableName(PROJECT, "bench", f"stage_{role}_{rows}x{columns}"): Staged(Objects(((uri, 0),)))
        for role, uri in (("requests", f"{folder}/input.jsonl"), ("responses", output))
    }
    begun = time.perf_counter()
    stage(client, "us-central1", places)
    return rates | {"our staging alone": rows / (time.perf_counter() - begun)}


def load_of_google(output: str) -> bigquery.LoadJobConfig:
    """The load job that ``GCSToBigQueryOperator`` makes for the lines of a job's output."""
    from airflow.providers.google.cloud.transfers.gcs_to_bigquery import GCSToBigQueryOperator
    from google.cloud.bigquery import LoadJobConfig

    operator = GCSToBigQueryOperator(
        task_id="load",
        bucket="bench",
        source_objects=[output],
        destination_project_dataset_table=f"{PROJECT}.bench.peer",
        source_format="NEWLINE_DELIMITED_JSON",
        schema_fields=[
            {"name": name, "type": kind}
            for name, kind in {
                "key": "STRING",
                "status": "STRING",
                "processed_time": "TIMESTAMP",
                "request": "JSON",
                "response": "JSON",
            }.items()
        ],
        write_disposition="WRITE_TRUNCATE",
    )
    operator.source_uris, operator.schema_update_options = [output], ()
    operator.src_fmt_configs = {}
    operator.hook = SimpleNamespace(
        project_id=PROJECT, split_tablename=lambda table_input, **_: table_input.split(".")
    )
    operator._use_existing_table()
    load = {
        name: operator.configuration["load"][name] for name in ("schema", "sourceFormat", "writeDisposition")
    }
    return LoadJobConfig.from_api_repr({"load": load})


READERS = ("common-ai, LLMBatchOperator", "pandas, as in Google's notebook", "json of the standard library")


def readers(
    rows: int,
    columns: int,
    folder: Path,
    growth: dict[str, list[tuple[float, float]]],
    memory: dict[str, list[tuple[float, float]]],
) -> dict[str, float]:
    """Return rows a second of readers in the worker, and add their points to the pictures."""
    if columns != max(COLUMNS):
        return {}
    found = {}
    for count in sizes(rows):
        write(folder, count, columns)
        as_of_openai(folder / "output", folder / "peer")
        for reader in READERS:
            seconds, peak = run_alone("--reader", reader, count, columns, folder)
            growth.setdefault(reader, []).append((count, seconds))
            memory.setdefault(reader, []).append((count, peak))
            found[f"{reader}, reading alone"] = count / seconds
    return found


def as_of_openai(output: Path, target: Path) -> None:
    """Write the same answers as lines of OpenAI's batches, which common-ai reads."""
    with output.open() as lines, target.open("w") as peer:
        for line in lines:
            row = json.loads(line)
            text = row["response"]["candidates"][0]["content"]["parts"][0]["text"]
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            body = {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
            custom_id = f"{'0' * 16}-{row['key'][1:]}"
            peer.write(
                json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": body}}) + "\n"
            )


def read(reader: str, rows: int, columns: int, folder: Path) -> None:
    """Read results in this process, and print what it took."""
    import logging

    # Imported here, so that the time of importing does not count.
    import airflow.providers.common.ai.batch.openai
    import pandas as pd
    from airflow.sdk import ObjectStoragePath
    from pydantic import create_model

    assert airflow.providers.common.ai.batch.openai, (pd, ObjectStoragePath)
    logging.disable()
    kinds = {"INTEGER": int, "NUMBER": float, "BOOLEAN": bool, "ARRAY": list, "OBJECT": dict}
    fields = {name: (kinds.get(each["type"], str), ...) for name, each in PROPERTIES[columns].items()}
    answer: Any = create_model("Answer", **fields)  # type: ignore[call-overload]
    ways: dict[str, Callable[[], int]] = dict(
        zip(
            READERS,
            (
                lambda: peers.read_with_common_ai(folder / "peer", rows, answer, folder / "landed"),
                lambda: peers.read_with_pandas(folder / "output"),
                lambda: peers.read_with_json(folder / "output"),
            ),
            strict=True,
        )
    )
    begun = time.perf_counter()
    found = ways[reader]()
    seconds = time.perf_counter() - begun
    assert found == rows, found
    print(json.dumps([seconds, peak_mb()]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(int(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["--reader"]:
        read(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        raise SystemExit(emit(report()))
