"""The local stack with a real ``airflow standalone``, in a background process.

``python -m airflow_gemini_batch.local_stack.standalone DIRECTORY DAGS PACE`` is that process. It keeps a lock
on a file while it runs, and stops the stack and Airflow when it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from airflow_gemini_batch.emulator.credentials import exports
from airflow_gemini_batch.emulator.stop_signal import StopSignal
from airflow_gemini_batch.local_stack import airflow_home, samples
from airflow_gemini_batch.local_stack.bigquery_python import find_bigquery_python
from airflow_gemini_batch.local_stack.places import example_dags, stop_command
from airflow_gemini_batch.local_stack.progress import OnStep, Step
from airflow_gemini_batch.local_stack.rest import call
from airflow_gemini_batch.local_stack.service import Service, StackError, isolated_environment, open_private
from airflow_gemini_batch.local_stack.stack import LocalStack, StackAddresses, free_port

STEP = "airflow"
ENVIRONMENT = "environment.sh"
START_SECONDS = 180.0
_ANSWER_SECONDS = 15.0
_PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
_STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """What the background process publishes about itself.

    :param airflow_url: base URL of the Airflow UI; empty until every part answers
    :param dags: the DAG folder
    :param pace: how fast batch jobs advance
    :param quotas: how many seconds the minute of the quotas lasts, if they are enforced
    """

    pid: int
    airflow_url: str
    addresses: StackAddresses | None
    dags: str
    pace: str
    quotas: float | None = None

    @classmethod
    def read(cls, directory: Path) -> Running | None:
        """Return what is running in ``directory``, or None."""
        written = cls.written(directory)
        return written if written and _is_locked(directory / "lock") else None

    @classmethod
    def written(cls, directory: Path) -> Running | None:
        """Return what was published last in ``directory``, whether it is still running or not."""
        with suppress(FileNotFoundError, ValueError, KeyError), (directory / "state.json").open() as file:
            state = json.load(file)
            addresses = StackAddresses(**state["addresses"]) if state["addresses"] else None
            return cls(
                state["pid"],
                state["airflow_url"],
                addresses,
                state["dags"],
                state.get("pace", ""),
                state.get("quotas"),
            )
        return None

    @staticmethod
    def forget(directory: Path) -> None:
        """Remove what was published: it has ended, and nobody needs to be told."""
        (directory / "state.json").unlink(missing_ok=True)

    def write(self, directory: Path) -> None:
        """Write the state atomically."""
        draft = directory / "state.draft"
        with open_private(draft) as file:
            file.write(json.dumps(asdict(self)).encode())
        os.replace(draft, directory / "state.json")


def find(
    directory: Path, dags: Path | None = None, pace: str | None = None, quotas: float | None = None
) -> Running | None:
    """Return what is running in ``directory`` and answers, or None.

    :param dags: the DAG folder that the user asks for, if any
    :param pace: the pace that the user asks for, if any
    :param quotas: the quotas that the user asks for, if any
    :raises StackError: it is running with another DAG folder, pace or quotas; or Airflow has ended behind
        it, or does not work
    """
    running = Running.read(directory)
    if not running:
        _check_last_end(directory)
    first = f"run `{stop_command(directory)}` first."
    if running and dags and running.dags != str(dags.resolve()):
        raise StackError(
            f"The local stack is already running, with the DAGs in {running.dags}. To use those in {dags}, "
            f"{first}"
        )
    if running and pace and running.pace != pace:
        raise StackError(
            f"The local stack is already running, with --pace {running.pace}. To use {pace}, {first}"
        )
    if running and quotas and running.quotas != quotas:
        now = f"with --quotas {running.quotas:g}" if running.quotas else "without --quotas"
        raise StackError(f"The local stack is already running, {now}. To use --quotas {quotas:g}, {first}")
    if not (running and running.airflow_url):
        return None
    _check_health(running, directory)
    return running


def _check_last_end(directory: Path) -> None:
    """Raise once if what ran in ``directory`` has ended by itself.

    :raises StackError: why it has
    """
    last, words = Running.written(directory), _last_words(directory)
    if last and last.airflow_url and words:
        Running.forget(directory)
        raise StackError(
            f"{words}\nThe local stack was stopped with it. Its logs and data in {directory} are kept until "
            "the next `up`, which starts anew."
        )


def _check_health(running: Running, directory: Path) -> None:
    """Wait a little for every part of Airflow to be healthy.

    :raises StackError: a part is not
    """
    deadline = time.monotonic() + _ANSWER_SECONDS
    while silent := _silent_parts(running.airflow_url):
        if time.monotonic() > deadline:
            raise StackError(
                f"The local stack is running, but a part of Airflow does not answer: {', '.join(silent)}. "
                f"Its log is {directory / 'airflow.log'}\nTo start anew, run `{stop_command(directory)}`, "
                "then `up`."
            )
        time.sleep(0.3)


def _silent_parts(url: str) -> list[str]:
    """Return the parts of Airflow that are not healthy: one that has died sends no heartbeats."""
    try:
        health = call(f"{url}/api/v2/monitor/health")
    except (OSError, ValueError):
        return ["api-server"]
    return [part for part in _PARTS if (health.get(part) or {}).get("status") != "healthy"]


def _last_words(directory: Path) -> str:
    """Return the last line that the background process wrote: why it ended, if it did so by itself."""
    with suppress(FileNotFoundError):
        return "".join((directory / "up.log").read_text(errors="replace").strip().splitlines()[-1:])
    return ""


def start(
    directory: Path, dags: Path | None, pace: str, on_step: OnStep, *, quotas: float | None = None
) -> Running:
    """Start everything in the background and wait until every part answers.

    When another process is already starting it, wait for that one.

    :param directory: for data and logs, which are kept until the next start
    :param dags: the DAG folder; the example DAGs by default
    :param pace: how fast batch jobs advance, in the syntax of ``gemini-batch emulator --pace``
    :param on_step: is called with ``STEP`` whenever it changes
    :param quotas: enforce Google's quotas of Vertex AI; the value is how many seconds their minute lasts
    :raises StackError: it did not start
    """
    if version("apache-airflow").startswith("2."):
        raise StackError("`gemini-batch up` needs Airflow 3.")
    on_step(Step(STEP, "running", "preparing"))
    find_bigquery_python(lambda note: on_step(Step(STEP, "running", note)))
    step = Step(STEP, "running", "scheduler, triggerer, dag-processor and api-server, on the local stack")
    on_step(step)
    directory.mkdir(parents=True, exist_ok=True)
    folder = (dags or example_dags()).resolve()
    process = None if Running.read(directory) else _detach(directory, folder, pace, quotas)
    try:
        running = _wait_until_up(directory, process)
    except BaseException:
        if process:
            process.terminate()
            process.wait()
        raise
    on_step(replace(step, state="done"))
    return running


def stop(directory: Path) -> bool:
    """Stop what :func:`start` started and wait until it has ended; return False if nothing was running.

    :raises StackError: it did not stop
    """
    running = Running.read(directory)
    if not running:
        Running.forget(directory)
        return False
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _is_locked(directory / "lock"):
        if time.monotonic() > deadline:
            raise StackError(f"Process {running.pid} did not stop. Its log is {directory / 'up.log'}")
        time.sleep(0.1)
    return True


def _wait_until_up(directory: Path, process: subprocess.Popen[bytes] | None) -> Running:
    """Wait for ``process``, or for one that was started elsewhere."""
    while True:
        running = Running.read(directory)
        if running and running.airflow_url:
            return running
        if process.poll() is not None if process else not running:
            words = _last_words(directory)
            raise StackError(f"The local stack did not start. {words}\nThe logs are in {directory}")
        time.sleep(0.1)


def _detach(directory: Path, dags: Path, pace: str, quotas: float | None) -> subprocess.Popen[bytes]:
    module = "airflow_gemini_batch.local_stack.standalone"
    command = [sys.executable, "-m", module, str(directory), str(dags), pace]
    command += [str(quotas)] if quotas else []
    with open_private(directory / "up.log") as log:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**isolated_environment(), **airflow_home.taken_settings()},
            start_new_session=True,
        )


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock(lock: Path) -> None:
    """Take the lock; the system releases it when this process ends, for whatever reason.

    :raises StackError: another process has the lock
    """
    # Neither closed nor inherited, so it stays open until this process ends.
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StackError("Another process is starting the local stack.") from None


def serve(directory: Path, dags: Path, pace: str, quotas: float | None = None) -> None:
    """Run the stack and Airflow until SIGTERM or until Airflow ends.

    :raises StackError: a part did not start, or Airflow ended by itself
    """
    stop = StopSignal()
    _lock(directory / "lock")
    with ExitStack() as stack:
        Running(os.getpid(), "", None, str(dags), pace, quotas).write(directory)
        for data in ("stack", "airflow"):
            # Cleared together: Airflow would otherwise remember runs whose data is gone.
            shutil.rmtree(directory / data, ignore_errors=True)
        addresses = stack.enter_context(LocalStack(directory / "stack", pace=pace, quotas=quotas))
        samples.seed(addresses)
        with open_private(directory / ENVIRONMENT) as file:
            # `gemini-batch jobs` shows the jobs of the Airflow that is started here.
            own = {**addresses.environment(), airflow_home.INSTALLATION_VARIABLE: airflow_home.INSTALLATION}
            file.write(exports(own).encode())
        port = free_port()
        airflow = _airflow(directory, dags, addresses, port)
        stack.callback(airflow.stop)
        airflow.start()
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(airflow, url, stop)
        Running(os.getpid(), url, addresses, str(dags), pace, quotas).write(directory)
        while not stop.wait(0.5):
            if not airflow.is_running:
                raise StackError(f"Airflow ended. Its log is {airflow.log}")
        Running.forget(directory)


def _airflow(directory: Path, dags: Path, addresses: StackAddresses, port: int) -> Service:
    binaries = Path(sys.executable).parent
    emulators = addresses.environment()
    made = airflow_home.create(directory / "airflow", dags, emulators)
    airflow_home.write_config(directory / "airflow", {**airflow_home.taken_settings(), **made})
    settings = {
        **made,
        **airflow_home.server_settings(port),
        **emulators,
        # `airflow standalone` runs `airflow` from the PATH, and this environment may not be activated.
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }
    return Service("Airflow", [str(binaries / "airflow"), "standalone"], directory / "airflow.log", settings)


def _wait_until_healthy(airflow: Service, url: str, stop: StopSignal) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError, ValueError):
            if not _silent_parts(url):
                # A cold api-server takes seconds for the first call of a task, and more on a busy machine.
                call(f"{url}/execution/health")
                return
        if stop.wait(0.3):
            raise StackError("The local stack was stopped while it was starting.")
        if not airflow.is_running:
            raise StackError(f"Airflow ended while it was starting. Its log is {airflow.log}")
        if time.monotonic() > deadline:
            raise StackError(
                f"Airflow did not become healthy within {START_SECONDS:.0f} s. Its log is {airflow.log}"
            )


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(float, sys.argv[4:5]))
    except StackError as error:
        sys.exit(str(error))
