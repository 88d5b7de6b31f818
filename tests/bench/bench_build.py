"""How fast requests are built, and that memory stays flat over a million of them."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from airflow_gemini_batch.requests.building.build import Defaults, build_lines
from airflow_gemini_batch.requests.building.upload import upload

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 200_000
LEAST_ROWS_A_SECOND = 150_000
MOST_GROWTH_MB = 30
TEXT = ('The quick brown fox jumps over the lazy dog, and says: "No".\n' * 20)[:1010]
DEFAULTS = Defaults(
    system_instruction="Be short.",
    response_schema={"type": "object", "properties": {"topic": {"type": "string"}}},
)


def prompts(count: int) -> Iterator[str]:
    """Prompts of 1 KB."""
    return (f"{TEXT} {number}" for number in range(count))


def rows_a_second() -> float:
    """Rows built and hashed in a second of one core, at best of five."""
    best = 0.0
    for _ in range(5):
        start = time.process_time()
        for _line in build_lines(prompts(ROWS), DEFAULTS):
            pass
        best = max(best, ROWS / (time.process_time() - start))
    return best


def peak_mb(count: int) -> float:
    """Peak memory of a process that builds and uploads so many rows to the storage emulator."""
    run = subprocess.run([sys.executable, __file__, str(count)], check=True, capture_output=True, text=True)
    return float(run.stdout.split()[-1])


def _upload(count: int) -> None:
    import os
    import resource
    import tempfile
    from pathlib import Path

    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    from airflow_gemini_batch.local_stack.stack import LocalStack

    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), vertex_url="") as addresses:
        os.environ["STORAGE_EMULATOR_HOST"] = addresses.storage_url
        client = storage.Client(addresses.project, AnonymousCredentials())
        client.create_bucket("bench")
        start = time.perf_counter()
        manifest = upload(build_lines(prompts(count), DEFAULTS), "gs://bench/run", client)
        seconds = time.perf_counter() - start
        client.close()
    objects = len(manifest.objects)
    print(f"{manifest.rows:,} rows in {objects} objects, {manifest.rows / seconds:,.0f} rows/s to storage")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> int:
    """Print the figures; 1 when one is worse than promised."""
    rate = rows_a_second()
    print(f"built and hashed: {rate:,.0f} rows/s of 1 KB")
    small, large = peak_mb(50_000), peak_mb(1_000_000)
    print(f"peak memory: {small:.0f} MB for 50,000 rows, {large:.0f} MB for 1,000,000")
    return 0 if rate >= LEAST_ROWS_A_SECOND and large - small <= MOST_GROWTH_MB else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _upload(int(sys.argv[1]))
        raise SystemExit(0)
    raise SystemExit(main())
