"""Run a command for as long as the parent lives: ``python watchdog.py COMMAND ARGUMENT…``.

The parent holds the other end of standard input. When that end closes, because the parent asks for it
or because it died in whatever way, the command and what it started are stopped. Closing a pipe is the
one message that even a parent killed by SIGKILL sends, on every POSIX system. Standard library only.
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
    """Become the parent of every descendant that loses its own, where the system can (Linux).

    Airflow gives each task a process group of its own, which a signal to one group does not reach.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _children() -> set[int]:
    found = set()
    # Listed by name alone: a glob looks at each entry, and a process may end meanwhile.
    for stat in (Path("/proc", name, "stat") for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold spaces and brackets; the parent is the second field after it.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def _send(number: int, leader: int) -> None:
    """Signal the group of ``leader`` and every process that was adopted."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
    for child in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def _reap(leader: int) -> tuple[bool, int | None]:
    """Collect who has ended.

    :return: whether a child is left, and the exit code of ``leader`` if it was collected now
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
    # Ctrl-C reaches the whole foreground group; the parent decides when its servers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    _adopt_orphans()
    # Kept, because a Popen that is thrown away collects the exit code of a command that ends at once.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    process.returncode = _stop_with_us(process.pid, wake)
    return process.returncode


def _stop_with_us(leader: int, wake: int) -> int:
    """Wait until the command ends, or has to; return its exit code."""
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
    """Stop whoever is left: politely at first, then for good."""
    number = signal.SIGTERM
    deadline = time.monotonic() + GRACE_SECONDS
    _send(number, leader)
    while True:
        left, collected = _reap(leader)
        code = collected if code is None else code
        if not left:
            return code or 0
        if time.monotonic() > deadline:
            # Whoever is adopted from now on has lost its parent to this signal, so it gets it at once.
            number, deadline = signal.SIGKILL, time.monotonic()
            _send(number, leader)
        if select.select([wake], [], [], 0.05)[0]:
            os.read(wake, 512)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
