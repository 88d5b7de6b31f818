"""A signal that arrives at any step of the wait for it ends the wait."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, signal, sys
from airflow_gemini_batch.emulator.stop_signal import StopSignal

signal.alarm(30)  # A wait that hangs ends the process.
step = 0
while True:
    step, seen, stop = step + 1, 0, StopSignal()

    def trace(*_):
        global seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return trace

    sys.settrace(trace)
    stop.wait(0.01)
    sys.settrace(None)
    if seen < step:
        break
    assert stop.wait(), step
print(step)
"""


def test_a_signal_at_any_step_ends_the_wait() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
