"""Run a command for as long as the parent lives: ``python watchdog.py COMMAND ARGUMENT…``.

The parent has the other end of standard input. When that end closes, because the parent closes it or
because the parent has ended, the command and its descendants are stopped. On every POSIX system the pipe
closes even if the parent is killed with SIGKILL. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 8.0
_PR_SET_CHILD_SUBREAPER = 36


def _adopt_orphans() -> None:
    """Become the parent of every orphaned descendant, where the system supports it (Linux).

    Airflow starts each task in its own process group, so a signal to one group does not reach them all.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> set[int]:
    found = set()
    # Listed by name: glob reads each entry, and a process may end in between.
    for stat in (Path("/proc", name, "stat") for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            # The process name may contain spaces and parentheses; the parent is the second field after it.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def _send(number: int, leader: int) -> None:
    """Send a signal to the process group of ``leader`` and to every adopted process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
    for child in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def _reap(leader: int) -> tuple[bool, int | None]:
    """Collect the processes that have ended.

    :return: whether a child is still running, and the exit code of ``leader`` if it has just ended
    """
    code = None
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True, code
            if pid == leader:
                code = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        return False, code


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or standard input closes.

    :return: the exit code of the command
    """
    # Ctrl-C signals the whole foreground group, but the parent decides when its servers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    _adopt_orphans()
    # Stored, because a discarded Popen would collect the exit code of a command that ends early.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    process.returncode = _wait_and_stop(process.pid, wake)
    return process.returncode


def _wait_and_stop(leader: int, wake: int) -> int:
    """Wait until the command ends or must be stopped; return its exit code."""
    code = None
    while code is None:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready and signal.SIGTERM in os.read(wake, 512):
            break
        if 0 in ready and not os.read(0, 1):
            break
        code = _reap(leader)[1]
    return _end(leader, code, wake)


def _end(leader: int, code: int | None, wake: int) -> int:
    """Stop the remaining processes with SIGTERM, and after the grace period with SIGKILL."""
    number = signal.SIGTERM
    deadline = time.monotonic() + GRACE_SECONDS
    _send(number, leader)
    while True:
        left, collected = _reap(leader)
        code = collected if code is None else code
        if not left:
            return code or 0
        if time.monotonic() > deadline:
            # Processes adopted from now on have lost their parent to SIGKILL, so they get it at once.
            number, deadline = signal.SIGKILL, time.monotonic()
            _send(number, leader)
        if select.select([wake], [], [], 0.05)[0]:
            os.read(wake, 512)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
