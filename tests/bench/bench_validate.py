"""How fast ``gemini-batch validate`` reads lines of 1 KB on one core, and what memory it takes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.emitting import emit, sizes
from tests.bench.figures import Figure, Growth, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEAST_PER_SECOND = 60_000.0
MANY = 100_000
MOST_GROWTH_MB = 2.0
WORDS = [f"river{n}" for n in range(997)]
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
SCRIPT = """
import resource, sys, time
from airflow_gemini_batch.requests.checking.import_check import check
check([])
before = resource.getrusage(resource.RUSAGE_SELF)
with open(sys.argv[1], "rb") as lines:
    report = check(lines)
after = resource.getrusage(resource.RUSAGE_SELF)
assert report.is_fine(), report.groups
seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(report.rows, report.size, seconds, after.ru_maxrss / 1024)
"""


def text(dice: random.Random, size: int) -> str:
    words = ""
    while len(words) < size:
        words += dice.choice(WORDS) + " "
    return words[:size]


def turn(role: str, words: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": words}]}


def prompts(dice: random.Random) -> dict[str, Any]:
    """A prompt and little else."""
    return {"contents": [turn("user", text(dice, 880))], "generationConfig": {"temperature": 0.2}}


def answers_by_schema(dice: random.Random) -> dict[str, Any]:
    """A prompt, an instruction and a response schema, as the package builds them."""
    return {
        "contents": [turn("user", text(dice, 400))],
        "systemInstruction": {"parts": [{"text": "Describe the package in three words."}]},
        "generationConfig": {
            "seed": dice.randrange(1000),
            "responseMimeType": "application/json",
            "responseSchema": SCHEMA,
        },
    }


def conversations(dice: random.Random) -> dict[str, Any]:
    """Two to eight turns."""
    turns = dice.randrange(1, 5) * 2
    contents = [turn(("user", "model")[n % 2], text(dice, 820 // turns)) for n in range(turns)]
    return {"contents": contents}


def lines(make: Callable[[random.Random], dict[str, Any]], count: int) -> Iterator[str]:
    dice = random.Random(7)
    for n in range(count):
        key = f"k{n:06}"
        request = {**make(dice), "labels": {"gemini_batch_key": key}}
        yield json.dumps({"key": key, "request": request}) + "\n"


def measure(path: Path) -> tuple[int, int, float, float]:
    command = [sys.executable, "-c", SCRIPT, str(path)]
    rows, size, seconds, peak = subprocess.run(command, check=True, capture_output=True).stdout.split()
    return int(rows), int(size), float(seconds), float(peak)


PEERS = {
    "json of the standard library, which checks nothing": "import json\nfor line in lines: json.loads(line)",
    "pandas, which checks nothing": "import pandas as pd\npd.read_json(lines, lines=True)",
}
PEER = """
import resource, sys
{imports}
before = resource.getrusage(resource.RUSAGE_SELF)
with open(sys.argv[1], "rb") as lines:
{body}
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""


def measure_peer(code: str, path: Path) -> float:
    """Seconds of processor time that a peer takes to read the lines."""
    imports, _, body = code.partition("\n")
    script = PEER.format(imports=imports, body=f"    {body}")
    run = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True)
    return float(run.stdout.split()[-1])


def report() -> Report:
    figures, growth, memory = [], 0.0, {}
    with tempfile.TemporaryDirectory() as folder:
        for make in (prompts, answers_by_schema, conversations):
            for count in sizes(MANY):
                path = Path(folder) / f"{make.__name__}-{count}.jsonl"
                with path.open("w") as file:
                    file.writelines(lines(make, count))
                rows, size, seconds, peak = measure(path)
                memory.setdefault(make.__name__.replace("_", " "), []).append((count, peak))
            points = memory[make.__name__.replace("_", " ")]
            growth = max(growth, points[-1][1] - points[0][1])
            name = f"validate, {make.__name__.replace('_', ' ')}, {size // rows:,} bytes a line"
            for peer, code in PEERS.items():
                other = rows / measure_peer(code, path)
                figure = Figure(name, rows / seconds, "lines/s", LEAST_PER_SECOND, True, peer, other)
                figures.append(figure.explained_by(lambda path=path: _check(path)))
    grown = Figure(f"memory, from 1,000 to {points[-1][0]:,} lines", growth, "MB more", MOST_GROWTH_MB)
    pictures = [Growth("validate-memory", "Peak memory of validating", "MB", memory)]
    return Report("Validating requests", [*figures, grown], pictures, "Lines per second of one core.")


def _check(path: Path) -> None:
    from airflow_gemini_batch.requests.checking.import_check import check

    with path.open("rb") as file:
        check(file)


if __name__ == "__main__":
    raise SystemExit(emit(report()))
