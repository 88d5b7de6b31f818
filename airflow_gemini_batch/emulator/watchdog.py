"""Run a command for as long as the parent lives: ``python watchdog.py COMMAND ARGUMENT…``.

The parent holds the other end of standard input. When that end closes, because the parent asks for it
or because it died in whatever way, the command and its process group are stopped. Closing a pipe is the
one message that even a parent killed by SIGKILL sends, on every POSIX system. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 8.0


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or standard input closes.

    :return: the exit code of the command
    """
    # Ctrl-C reaches the whole foreground group; the parent decides when its servers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    gone = threading.Event()

    def stop() -> None:
        _signal_group(child.pid, signal.SIGTERM)
        if not gone.wait(GRACE_SECONDS):
            _signal_group(child.pid, signal.SIGKILL)

    def stop_when_the_parent_is_gone() -> None:
        while os.read(0, 1):
            pass
        stop()

    threading.Thread(target=stop_when_the_parent_is_gone, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop).start())
    code = child.wait()
    gone.set()
    # What outlives its leader has nobody left to stop it.
    _signal_group(child.pid, signal.SIGKILL)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
