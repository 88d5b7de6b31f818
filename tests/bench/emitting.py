"""How a benchmark script hands its report to ``python -m tests.bench``, or prints it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tests.bench.figures import is_good, table

if TYPE_CHECKING:
    from tests.bench.figures import Report

SHORT = bool(os.environ.get("BENCH_SHORT"))
"""Whether few rows are enough."""


def sizes(largest: int = 1_000_000) -> list[int]:
    """Return the numbers of rows for a picture of growth."""
    return [rows for rows in (1_000, 10_000, 100_000, 1_000_000) if rows <= (10_000 if SHORT else largest)]


def emit(report: Report) -> int:
    """Write the report to the file after ``--json``, or print it; return 1 if a target is missed."""
    if sys.argv[1:2] == ["--json"]:
        Path(sys.argv[2]).write_bytes(msgspec.json.encode(report))
        return 0
    print("\n".join(table(report.figures)))
    return 0 if is_good([report]) else 1
