"""Finds the process behind a connection, and kills processes with SIGKILL."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_TITLE = re.compile(r"airflow worker -- ([0-9a-f-]{36})")
_WORKER = "LocalExecutor"
_TRIES = 25


@dataclass(frozen=True)
class Client:
    """An Airflow process.

    :param title: its command line
    """

    pid: int
    title: str

    @property
    def task(self) -> str | None:
        """The id of the task instance that it runs, if any."""
        match = _TITLE.search(self.title)
        return match[1] if match else None

    @property
    def is_worker(self) -> bool:
        """Whether it supervises a task."""
        return _WORKER in self.title


def client_of(port: int) -> Client:
    """The process that has a connection from ``port``.

    A forked task inherits the connections of its supervisor; the older process opened the connection.
    """
    for _ in range(_TRIES):
        # The kernel's list is read in pieces, and may omit a connection while others open and close.
        inode = _inode(port)
        if inode and (owners := sorted(_owners(inode))):
            return Client(owners[0], title(owners[0]))
        time.sleep(0.02)
    return Client(0, "")


def title(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def parent_of(pid: int) -> int:
    """The parent of a process; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def children_of(pid: int) -> list[int]:
    """The children of a process."""
    return [
        int(each.name)
        for each in Path("/proc").iterdir()
        if each.name.isdigit() and parent_of(int(each.name)) == pid
    ]


def family_of(pid: int) -> list[int]:
    """A process and all its descendants, parents first."""
    found = [pid]
    for each in found:
        found += children_of(each)
    return found


def kill(pids: list[int]) -> None:
    """Kill processes together, stopping all first so that none can react, and wait until they are gone."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    while any(_is_alive(pid) for pid in pids):
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _inode(port: int) -> str | None:
    """The inode of the connected socket with the local ``port``."""
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1].endswith(wanted) and columns[9] != "0" and columns[3] == "01":
            return columns[9]
    return None


def _owners(inode: str) -> list[int]:
    wanted, found = f"socket:[{inode}]", []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or "airflow" not in title(int(process.name)):
            continue
        with contextlib.suppress(OSError):
            if any(os.readlink(handle) == wanted for handle in (process / "fd").iterdir()):
                found.append(int(process.name))
    return found
