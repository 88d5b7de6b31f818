"""How fast requests are built, in each way of giving them, and how memory grows with the rows.

With ``--peak WAY ROWS`` it prints the seconds and the peak memory in MB of one way, in its own process.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from airflow_gemini_batch.requests.building.build import Defaults, build_lines
from airflow_gemini_batch.requests.building.upload import upload
from tests.bench import peers
from tests.bench.emitting import SHORT, emit, sizes
from tests.bench.figures import Figure, Growth, Report
from tests.bench.memory import peak_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROWS = 10_000 if SHORT else 50_000
BEST_OF = 3
LEAST_ROWS_A_SECOND = 250_000.0
MOST_GROWTH_MB = 30.0
# What a peer needs for more rows does not fit into the memory of a small worker.
MOST_ROWS_OF_PEERS = 100_000
TEXT = ('The quick brown fox jumps over the lazy dog, and says: "No".\n' * 20)[:1010]
INSTRUCTION = "Be short."


class Topic(BaseModel):
    topic: str


DEFAULTS = Defaults(system_instruction=INSTRUCTION, response_schema=Topic)
SHARED = DEFAULTS.members()


def prompts(count: int) -> Iterator[str]:
    """Prompts of 1 KB."""
    return (f"{TEXT} {number}" for number in range(count))


def _drain(given: Iterable[Any], **more: Any) -> None:
    for _line in build_lines(given, DEFAULTS, **more):
        pass


def _requests(texts: Iterable[str]) -> list[Any]:
    return [{"contents": [{"role": "user", "parts": [{"text": text}]}]} for text in texts]


# The rows are made before the clock starts: they are the user's.
OURS: dict[str, tuple[Callable[[list[str]], Any], Callable[[Any], object]]] = {
    "texts": (list, _drain),
    "texts with keys": (lambda texts: [(f"row-{n}", text) for n, text in enumerate(texts)], _drain),
    "rows for a template": (
        lambda texts: [{"key": f"row-{n}", "text": text} for n, text in enumerate(texts)],
        lambda rows: _drain(rows, template="Sort: {text}"),
    ),
    "requests as dicts": (_requests, _drain),
}
PEERS: dict[str, Callable[[list[str]], object]] = {
    "common-ai, LLMBatchOperator": lambda texts: peers.build_with_common_ai(texts, INSTRUCTION, Topic),
    "pandas, as in Google's notebook": lambda texts: peers.build_with_pandas(texts, SHARED),
    "json of the standard library": lambda texts: peers.build_with_json(texts, SHARED),
}


def rate(make: Callable[[Any], object], given: Any, rows: int) -> float:
    """Rows in a second of one core, at best of three."""
    best = 0.0
    for _ in range(BEST_OF):
        begun = time.process_time()
        make(given)
        best = max(best, rows / (time.process_time() - begun))
    return best


def measure() -> Report:
    logging.disable()
    texts = list(prompts(ROWS))
    beside = {name: rate(make, texts, ROWS) for name, make in PEERS.items()}
    figures = []
    for way, (prepare, make) in OURS.items():
        given = prepare(texts)
        value = rate(make, given, ROWS)
        # The target is for text, which needs no look at each member of a request.
        target = LEAST_ROWS_A_SECOND if way.startswith("texts") else None
        for peer, other in beside.items():
            figure = Figure(f"build, {way}", value, "rows/s", target, True, peer, other)
            figures.append(figure.explained_by(lambda make=make, given=given: make(given)))
    growths, memory = growth()
    note = (
        "Rows of 1 KB with an instruction and a response schema, in rows per second of one core. Ours have "
        "keys that follow from the content where none is given. common-ai counts the bytes of a batch before "
        "it builds it. The pictures are of building and storing in Cloud Storage for ours, and of building "
        f"alone for peers, up to {MOST_ROWS_OF_PEERS:,} rows."
    )
    return Report("Building requests", [*figures, *memory], growths, note)


def growth() -> tuple[list[Growth], list[Figure]]:
    """Measure each way at each number of rows, in a process of its own."""
    seconds: dict[str, list[tuple[float, float]]] = {}
    memory: dict[str, list[tuple[float, float]]] = {}
    for way in ("ours, stored", *PEERS):
        for rows in sizes(1_000_000 if way == "ours, stored" else MOST_ROWS_OF_PEERS):
            command = [sys.executable, "-m", "tests.bench.bench_build", "--peak", way, str(rows)]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            took, peak = map(float, run.stdout.splitlines()[-1].split())
            seconds.setdefault(way, []).append((rows, took))
            memory.setdefault(way, []).append((rows, peak))
    ours = memory["ours, stored"]
    grown = ours[-1][1] - ours[0][1]
    most = max(memory, key=lambda way: memory[way][-1][1])
    theirs = memory[most]
    figure = Figure(
        f"memory of the worker, from 1,000 to {ours[-1][0]:,.0f} rows",
        grown,
        "MB more",
        MOST_GROWTH_MB,
        peer=f"{most}, to {theirs[-1][0]:,.0f} rows",
        peer_value=theirs[-1][1] - theirs[0][1],
    )
    return [
        Growth("build-seconds", "Seconds to build requests", "s", seconds),
        Growth("build-memory", "Peak memory while building requests", "MB", memory),
    ], [figure]


def _peak(way: str, rows: int) -> None:
    logging.disable()
    if way in PEERS:
        texts = list(islice(cycle(prompts(rows)), rows))
        # Once for what it imports, which does not count.
        PEERS[way](texts[:1])
        begun = time.perf_counter()
        PEERS[way](texts)
        print(time.perf_counter() - begun, peak_mb())
    else:
        _store(rows)


def _store(rows: int) -> None:
    import os
    import tempfile

    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    from airflow_gemini_batch.local_stack.stack import LocalStack

    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), vertex_url="") as addresses:
        os.environ["STORAGE_EMULATOR_HOST"] = addresses.storage_url
        client = storage.Client(addresses.project, AnonymousCredentials())
        client.create_bucket("bench")
        begun = time.perf_counter()
        manifest = upload(build_lines(prompts(rows), DEFAULTS), "gs://bench/run", client)
        seconds = time.perf_counter() - begun
        client.close()
    assert manifest.rows == rows
    print(seconds, peak_mb())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        _peak(sys.argv[2], int(sys.argv[3]))
    else:
        raise SystemExit(emit(measure()))
