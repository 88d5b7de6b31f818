"""How fast ``gemini-batch validate`` reads lines of 1 KB on one core, and what memory it takes."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEAST_PER_SECOND = 40_000
FEW, MANY = 1_000, 200_000
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


def main() -> int:
    slowest, growth = float("inf"), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for make in (prompts, answers_by_schema, conversations):
            paths = {}
            for count in (FEW, MANY):
                paths[count] = Path(folder) / f"{count}.jsonl"
                with paths[count].open("w") as file:
                    file.writelines(lines(make, count))
            few = measure(paths[FEW])[3]
            rows, size, seconds, peak = measure(paths[MANY])
            growth = max(growth, peak - few)
            slowest = min(slowest, rows / seconds)
            print(
                f"{make.__name__} ({size // rows} bytes a line): {rows / seconds:,.0f} lines/s; "
                f"peak {few:.1f} MB at {FEW:,} lines, {peak:.1f} MB at {MANY:,}"
            )
    began, generated = time.process_time(), 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    from airflow_gemini_batch.requests.checking.import_check import check

    one = next(lines(prompts, 1)).encode()
    report = check(one.replace(b"k000000", b"k%06d" % n) for n in range(generated))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert report.rows == generated
    taken = time.process_time() - began
    print(f"{generated:,} generated rows: {taken:.1f} s, {grown:.1f} MB with all that is imported")
    return 0 if slowest >= LEAST_PER_SECOND and growth <= MOST_GROWTH_MB else 1


if __name__ == "__main__":
    raise SystemExit(main())
