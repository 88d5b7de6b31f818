"""A server process on loopback that ends with its parent."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING

from airflow_gemini_batch.local_stack import watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START_SECONDS = 120.0
FOREIGN = ("AIRFLOW_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "STORAGE_EMULATOR_", "BIGQUERY_EMULATOR_")
_URL = re.compile(r"http://127\.0\.0\.1:\d+(?:/[\w-]+)?")


class StackError(RuntimeError):
    """A part of the local stack cannot be started; the message says which, why, and what to do."""


def isolated_environment() -> dict[str, str]:
    """``os.environ`` without variables for another Airflow, for credentials, or for real Google Cloud."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {
        **kept,
        # gcloud's folder, which may have credentials of the user.
        "CLOUDSDK_CONFIG": os.devnull,
        "NO_GCE_CHECK": "True",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def open_private(path: Path) -> IO[bytes]:
    """Open a new file for writing that no other user of this machine can read."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


class Service:
    """One process of the stack, under a watchdog that stops it when this process ends.

    :param command: the program and its arguments
    :param log: file for its output
    :param environment: variables to add to :func:`isolated_environment`
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, "-I", "-S", watchdog.__file__, *command]
        self._environment = {**isolated_environment(), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start without waiting."""
        with open_private(self.log) as output:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                # Its files are data, and addresses that open every door of the stack.
                umask=0o077,
            )

    def wait(self) -> int:
        """Wait until the process ends by itself, and return its exit code."""
        code = self._process.wait() if self._process else 0
        self.stop()
        return code

    def wait_for(self, line: str, timeout: float = START_SECONDS) -> str:
        """Wait until the log has a line that contains ``line`` and a URL on loopback.

        The log proves that this process, and not another one, listens on the port.

        :return: that URL
        :raises StackError: the process ended, or ``timeout`` seconds passed, before that
        """
        deadline = time.monotonic() + timeout
        while True:
            running = self.is_running
            for text in self.log.read_text(errors="replace").splitlines():
                if line in text and (url := _URL.search(text)):
                    return url.group()
            if not running:
                raise StackError(f"{self.name} ended while it was starting. {self._end_of_log()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} did not start within {timeout:.0f} s. {self._end_of_log()}")
            time.sleep(0.02)

    def begin_stop(self) -> None:
        """Tell the process to stop, without waiting."""
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def stop(self) -> None:
        """Stop the process and wait until it has ended; idempotent."""
        self.begin_stop()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(watchdog.GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _end_of_log(self) -> str:
        text = self.log.read_text(errors="replace").strip()[-1500:]
        return f"Its log is {self.log}" + (f" and ends with:\n{text}" if text else "; it is empty.")
