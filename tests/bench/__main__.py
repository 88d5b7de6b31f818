"""Run the benchmarks one after another and write docs/benchmarks.md: ``python -m tests.bench [--write]``."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from tests.bench.figures import Report, is_good, page, table
from tests.bench.svg import picture

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-google",
    "apache-airflow-providers-common-ai",
    "apache-airflow-providers-anthropic",
    "pandas",
)


def main() -> int:
    """Return 1 if a target is missed or a script fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its pictures")
    parser.add_argument("--short", action="store_true", help="fewer rows, for a look while something changes")
    parser.add_argument("names", nargs="*", help="scripts, such as build; default: all")
    arguments = parser.parse_args()
    scripts = [HERE / f"bench_{name}.py" for name in arguments.names] or sorted(HERE.glob("bench_*.py"))
    found = []
    for script in scripts:
        if report := run(script, is_short=arguments.short):
            found.append(report)
            # Each time, so that a run that is stopped leaves what it has measured.
            if arguments.write:
                write(found, is_short=arguments.short)
    return 0 if len(found) == len(scripts) and is_good(found) else 1


def run(script: Path, *, is_short: bool) -> Report | None:
    """Run a script in a process of its own, show its table, and return what it measured; None if it failed.

    A script that knows no ``--json`` is run as it is, and prints its figures itself.
    """
    print(script.name, flush=True)
    module = f"tests.bench.{script.stem}"
    if "emit(" not in script.read_text(encoding="utf-8"):
        done = subprocess.run([sys.executable, "-m", module], check=False)
        return None if done.returncode else Report(script.stem.removeprefix("bench_"), [], [])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        environment = {**os.environ, **({"BENCH_SHORT": "1"} if is_short else {})}
        # A worker has the bytecode of what it imports; compiling it anew would be measured, too.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-m", module, "--json", str(file)]
        if subprocess.run(command, check=False, env=environment).returncode:
            return None
        report = msgspec.json.decode(file.read_bytes(), type=Report)
    print("\n".join(table(report.figures)), flush=True)
    return report


def write(reports: list[Report], *, is_short: bool) -> None:
    """Write the page and its pictures."""
    folder = DOCS / "benchmarks"
    folder.mkdir(exist_ok=True)
    for growth in (growth for report in reports for growth in report.growths):
        (folder / f"{growth.name}.svg").write_text(picture(growth), encoding="utf-8")
    shown = [report for report in reports if report.figures]
    (DOCS / "benchmarks.md").write_text(page(shown, facts(is_short=is_short)), encoding="utf-8")


def facts(*, is_short: bool) -> list[str]:
    """Return what the figures depend on."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    processor = platform.processor() or platform.machine()
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        names = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(": ")[2] if names else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = f", load {os.getloadavg()[0]:.1f} at the end"
    lines = [
        f"- {datetime.now(UTC):%Y-%m-%d}, {processor}, {cores} cores{busy}, {platform.system()}, "
        f"Python {platform.python_version()}",
        f"- {versions}",
        "- BigQuery and Cloud Storage are the emulators of the local stack, on the same machine.",
    ]
    if is_short:
        lines.append("- **A short run with fewer rows, on a machine with other work: not final figures.**")
    return lines


if __name__ == "__main__":
    sys.exit(main())
