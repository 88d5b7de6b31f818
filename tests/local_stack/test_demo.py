from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

DEMO = [sys.executable, "-m", "airflow_gemini_batch.cli", "demo"]


def left_behind(output: str) -> list[str]:
    """Return the processes whose command line has the directory of the run."""
    (directory,) = set(re.findall(r"\.local/demo/\S+", output))
    processes = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    return [process for process in processes.splitlines() if directory in process]


def test_the_demo_lands_a_row_for_every_installed_distribution() -> None:
    done = subprocess.run(DEMO, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = done.stdout
    assert done.returncode == 0, output
    assert "emulator makes them up" in output
    for state in ("PENDING", "RUNNING", "SUCCEEDED"):
        assert re.search(rf"^  {state} +\d\d:\d\d:\d\d", output, re.MULTILINE)
    names, numbers = re.search(r"Rows by status\n(.+)\n(.+)\n", output).groups()  # type: ignore[union-attr]
    rows = dict(zip(names.split(), map(int, numbers.replace(",", "").split()), strict=True))
    assert rows.pop("input") == sum(rows.values()) == rows["succeeded"] > 100
    assert len(re.findall(r"^  dist-\S+ +\w+ ", output, re.MULTILINE)) == 10
    assert not left_behind(output)


def accept_interrupts() -> None:
    """A shell makes its background processes ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_demo_stops_everything() -> None:
    with subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=accept_interrupts,  # noqa: PLW1509
    ) as demo:
        assert demo.stdout
        output = ""
        while "✓ start the stack" not in output:
            line = demo.stdout.readline()
            assert line, output
            output += line
        demo.send_signal(signal.SIGINT)
        output += demo.stdout.read()
    assert demo.returncode == 130, output
    assert "everything is stopped" in output
    assert not left_behind(output)
