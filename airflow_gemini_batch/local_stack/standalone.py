"""``gemini-batch up`` and ``down``: the local stack under a real ``airflow standalone``.

A background process holds everything: its lock says that it lives, its end is the end of the stack.
``python -m airflow_gemini_batch.local_stack.standalone DIRECTORY PACE`` is that process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_gemini_batch.cli.terminal import Progress, Step, Terminal
from airflow_gemini_batch.local_stack import airflow_home, samples
from airflow_gemini_batch.local_stack.rest import call
from airflow_gemini_batch.local_stack.service import Service, StackError, isolated_environment
from airflow_gemini_batch.local_stack.stack import LocalStack, StackAddresses, checkout, free_port

PACE = "seconds:3"
START_SECONDS = 180.0
_STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """What the background process tells about itself.

    :param airflow_url: Airflow's page; empty until everything answers
    """

    pid: int
    airflow_url: str
    addresses: StackAddresses | None

    @classmethod
    def read(cls, directory: Path) -> Running | None:
        """Return what runs in ``directory``, or None."""
        with suppress(FileNotFoundError, ValueError), (directory / "state.json").open() as file:
            state = json.load(file)
            addresses = StackAddresses(**state["addresses"]) if state["addresses"] else None
            if _is_held(directory / "lock"):
                return cls(state["pid"], state["airflow_url"], addresses)
        return None

    def write(self, directory: Path) -> None:
        """Tell it, in one piece."""
        draft = directory / "state.draft"
        draft.write_text(json.dumps(asdict(self)))
        os.replace(draft, directory / "state.json")


def default_directory() -> Path:
    """Return where ``make up`` keeps its data and logs."""
    return checkout() / ".local" / "up"


def up(directory: Path | None = None, pace: str = PACE) -> int:
    """Start everything in the background, unless it runs, and say where; returns the exit code.

    :param pace: how fast jobs advance, as ``gemini-batch emulator --pace`` takes it
    :raises StackError: when it does not start
    """
    directory = (directory or default_directory()).resolve()
    terminal = Terminal()
    running = Running.read(directory)
    if running and running.airflow_url:
        terminal.say("It is running already.")
    else:
        running = _start(directory, pace, terminal)
    _say_where(terminal, running, directory)
    return 0


def down(directory: Path | None = None) -> int:
    """Stop what :func:`up` started and wait until it is gone; returns the exit code.

    :raises StackError: when it does not stop
    """
    directory = (directory or default_directory()).resolve()
    running = Running.read(directory)
    if not running:
        print("Nothing is running.")
        return 0
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _is_held(directory / "lock"):
        if time.monotonic() > deadline:
            raise StackError(f"Process {running.pid} does not stop. Its log is {directory / 'up.log'}")
        time.sleep(0.1)
    print("Stopped.")
    return 0


def _start(directory: Path, pace: str, terminal: Terminal) -> Running:
    """Start the background process, unless somebody is at it, and wait until everything answers."""
    directory.mkdir(parents=True, exist_ok=True)
    step = Step("airflow")
    step.begin("scheduler, triggerer, dag-processor and api-server, on the local stack")
    process = None if Running.read(directory) else _detach(directory, pace)
    with Progress(terminal, [step]):
        try:
            running = _wait_until_up(directory, process)
        except BaseException:
            if process:
                process.terminate()
                process.wait()
            raise
        step.end(well=True)
    return running


def _wait_until_up(directory: Path, process: subprocess.Popen[bytes] | None) -> Running:
    """Wait for ``process``, or for the one that somebody else started."""
    while True:
        running = Running.read(directory)
        if running and running.airflow_url:
            return running
        if process.poll() is not None if process else not running:
            words = (directory / "up.log").read_text(errors="replace").strip().splitlines()[-1:]
            raise StackError(f"It did not start. {''.join(words)}\nThe logs are in {directory}")
        time.sleep(0.1)


def _detach(directory: Path, pace: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "airflow_gemini_batch.local_stack.standalone", str(directory), pace]
    with (directory / "up.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=isolated_environment(),
            start_new_session=True,
        )


def _say_where(terminal: Terminal, running: Running, directory: Path) -> None:
    dags = f"{running.airflow_url}/dags"
    terminal.heading("Airflow")
    terminal.pairs(
        [
            ("page", terminal.style(dags, "cyan") + "  (no log-in; trigger any DAG)"),
            ("logs", str(directory)),
            ("stop", "make down"),
        ]
    )
    if running.addresses:
        terminal.heading("The stand-ins, whose answers are made up")
        terminal.pairs([(name, str(value)) for name, value in asdict(running.addresses).items()])


def _is_held(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _hold(lock: Path) -> None:
    """Hold the lock until this process has ended, in whatever way; the system lets go of it then.

    :raises StackError: when another process holds it
    """
    # Not closed and not inherited: it is open as long as we are.
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StackError("It is being started by somebody else.") from None


def serve(directory: Path, pace: str) -> None:
    """Run the stack and Airflow until SIGTERM or until Airflow ends.

    :raises StackError: when a part does not start, or when Airflow ends by itself
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    _hold(directory / "lock")
    with ExitStack() as stack:
        Running(os.getpid(), "", None).write(directory)
        for data in ("stack", "airflow"):
            # The stand-ins and Airflow remember runs together or not at all.
            shutil.rmtree(directory / data, ignore_errors=True)
        addresses = stack.enter_context(LocalStack(directory / "stack", pace=pace))
        samples.seed(addresses)
        port = free_port()
        airflow = _airflow(directory, addresses, port)
        stack.callback(airflow.stop)
        airflow.start()
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(airflow, url, stopped)
        Running(os.getpid(), url, addresses).write(directory)
        while not stopped.wait(0.5):
            if not airflow.is_running:
                raise StackError(f"Airflow ended. Its log is {airflow.log}")


def _airflow(directory: Path, addresses: StackAddresses, port: int) -> Service:
    binaries = Path(sys.executable).parent
    settings = {
        **airflow_home.create(directory / "airflow", checkout() / "example_dags"),
        **airflow_home.server_settings(port),
        **addresses.environment(),
        # Standalone looks for the command `airflow`, which needs no activated environment this way.
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }
    return Service("Airflow", [str(binaries / "airflow"), "standalone"], directory / "airflow.log", settings)


def _wait_until_healthy(airflow: Service, url: str, stopped: threading.Event) -> None:
    deadline = time.monotonic() + START_SECONDS
    parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    while True:
        with suppress(urllib.error.URLError, ConnectionError, ValueError):
            health = call(f"{url}/api/v2/monitor/health")
            if all((health.get(part) or {}).get("status") == "healthy" for part in parts):
                return
        if stopped.wait(0.3):
            raise StackError("Stopped while it started.")
        if not airflow.is_running:
            raise StackError(f"Airflow ended while it started. Its log is {airflow.log}")
        if time.monotonic() > deadline:
            raise StackError(f"Airflow was not healthy after {START_SECONDS:.0f} s. Its log is {airflow.log}")


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), sys.argv[2])
    except StackError as error:
        sys.exit(str(error))
