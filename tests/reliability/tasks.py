"""Runs tasks as Airflow does: with retries, deferral and resumption, the real operators and trigger."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import threading
import time
import urllib.request
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    TaskDeferred,
)

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS
from airflow_gemini_batch.exceptions import GeminiBatchError
from tests.measure import ASKED_BY, INSTALLATION, charges
from tests.task_instance import TaskInstance
from tests.wire import PauseBefore, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.measure import Charge
    from tests.wire import Call

Context = Any
TRIES = 6
_INSTALLATION = "AIRFLOW__GEMINI_BATCH__INSTALLATION"
_PAUSE_SECONDS = 60.0


class TaskFailedError(Exception):
    """The task failed: every try failed, or one failed without retry. The cause is its last error."""


@dataclass
class Task:
    """One run of one task.

    :param make: creates a new operator for every try, as a new process would
    :param store: Airflow's ``task_state_store``, if available
    :param installation: name of the Airflow installation that runs it
    :param while_deferred: called once, while the task waits in the triggerer
    """

    make: Callable[[], Any]
    ti: TaskInstance = field(default_factory=TaskInstance)
    store: Mapping[str, Any] | None = None
    installation: str = ""
    while_deferred: Callable[[], object] | None = None
    failures: list[Exception] = field(default_factory=list)

    def run(self, tries: int = TRIES) -> Any:
        """Run the task until it succeeds. Errors of other packages propagate.

        :raises TaskFailedError: it did not succeed
        """
        for _ in range(tries):
            try:
                return self.run_try()
            except (AirflowFailException, AirflowSensorTimeout) as error:
                self.failures.append(error)
                if not isinstance(error.__cause__, GeminiBatchError):
                    raise
                raise TaskFailedError(self) from error.__cause__
            except GeminiBatchError as error:
                self.failures.append(error)
            self.ti.try_number += 1
        raise TaskFailedError(self) from self.failures[-1]

    def run_try(self) -> Any:
        """Run one try, with all its deferrals."""
        context: Context = {"ti": self.ti}
        if self.store is not None:
            context["task_state_store"] = self.store
        with self._environment():
            try:
                operator = self.make()
                # Airflow 2 wraps execute in a guard that works on the main thread only.
                return inspect.unwrap(type(operator).execute)(operator, context)
            except TaskDeferred as caught:
                deferred = caught
            while True:
                if self.while_deferred:
                    happens, self.while_deferred = self.while_deferred, None
                    happens()
                event = asyncio.run(first_event(deferred.trigger))
                # Airflow stores the arguments in its database.
                kwargs = json.loads(json.dumps(deferred.kwargs or {}))
                try:
                    return getattr(self.make(), deferred.method_name)(context, event, **kwargs)
                except TaskDeferred as caught:
                    deferred = caught

    def clear(self) -> None:
        """Prepare the task to run again, as a user who clears it does."""
        self.ti.clear()

    def retry(self) -> None:
        """Prepare the task to run again, as Airflow does after a failure."""
        self.ti.try_number += 1

    @contextlib.contextmanager
    def _environment(self) -> Iterator[None]:
        before = os.environ.get(_INSTALLATION)
        if self.installation:
            os.environ[_INSTALLATION] = self.installation
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(_INSTALLATION, None)
            else:
                os.environ[_INSTALLATION] = before


async def first_event(trigger: Any) -> dict[str, Any]:
    """Run a trigger as the triggerer would: recreated from its serialized form."""
    _, kwargs = trigger.serialize()
    async for event in type(trigger)(**kwargs).run():
        return event.payload  # type: ignore[no-any-return]
    raise AssertionError("the trigger ended without an event")


def run_two_tries(task: Task, matches: Callable[[Call], bool], nth: int) -> Any:
    """Run a try that pauses before its nth matching call, the next try meanwhile, then the rest of the first.

    Airflow takes a worker that pauses for dead: the second try is the one that counts.

    :return: what the second try returns
    :raises TaskFailedError: it did not succeed
    """
    pause = PauseBefore(matches, nth)
    first = replace(task, ti=replace(task.ti), failures=[], while_deferred=None)
    unexplained: list[BaseException] = []

    def run_first() -> None:
        try:
            first.run(tries=1)
        except TaskFailedError:
            pass
        except BaseException as error:
            unexplained.append(error)
        finally:
            pause.reached.set()

    pause.thread = threading.Thread(target=run_first)
    with watched(pause):
        pause.thread.start()
        assert pause.reached.wait(_PAUSE_SECONDS)
        task.ti.try_number += 1
        try:
            return task.run()
        finally:
            pause.go_on()
            pause.thread.join(_PAUSE_SECONDS)
            assert not unexplained, unexplained


def accepted(operator: Callable[..., Any], **parameters: Any) -> dict[str, Any]:
    """Return the parameters that an operator has."""
    known = inspect.signature(operator).parameters
    return {name: value for name, value in parameters.items() if name in known}


def labels(asked_by: str, installation: str = "", pace: str = "") -> dict[str, str]:
    """Return labels that tell on the bill who asked for a job."""
    given = {ASKED_BY: asked_by, INSTALLATION: installation, "emulator-pace": pace}
    return {name: value for name, value in given.items() if value}


def bill(emulator: Emulator) -> list[Charge]:
    """Return what all jobs have cost so far."""
    return charges(emulator.jobs, emulator.completed_rows)


def settle(emulator: Emulator) -> None:
    """Let all jobs end, so that the bill is complete."""
    emulator.faults = NO_FAULTS
    deadline = time.monotonic() + 120
    while running := [job["name"] for job in emulator.jobs if not JobState.parse(job["state"]).is_terminal]:
        assert time.monotonic() < deadline, f"still running: {running}"
        for name in running:
            _call(emulator, "GET", name)


def cancel_by_hand(emulator: Emulator, looks: int = 0) -> list[str]:
    """Look at all active jobs in the console, then cancel them; return the name of a job for each request.

    :param looks: how often
    """
    sent = []
    for name in active(emulator):
        for _ in range(looks):
            with contextlib.suppress(OSError):
                _call(emulator, "GET", name)
        while name in active(emulator):
            sent.append(name)
            with contextlib.suppress(OSError):
                _call(emulator, "POST", f"{name}:cancel")
    return sent


def cancel_requests(emulator: Emulator, seen: int = 0) -> list[str]:
    """Return the name of the job of each request to cancel one.

    :param seen: number of requests, of all kinds, to leave out
    """
    paths = [request.path for request in emulator.requests[seen:]]
    return [path.split("/", 2)[2].removesuffix(":cancel") for path in paths if path.endswith(":cancel")]


def lost() -> None:
    """The triggerer, or the worker that runs next, is gone."""
    raise GeminiBatchError("lost")


def lost_after_the_end(emulator: Emulator) -> None:
    """All jobs end, and then the triggerer is gone."""
    settle(emulator)
    lost()


def active(emulator: Emulator) -> list[str]:
    """Return the names of the jobs that are going to process rows."""
    ending = (JobState.CANCELLING, *(state for state in JobState if state.is_terminal))
    return [job["name"] for job in emulator.jobs if JobState.parse(job["state"]) not in ending]


def _call(emulator: Emulator, method: str, name: str) -> None:
    request = urllib.request.Request(  # noqa: S310  # always http://127.0.0.1
        f"{emulator.url}/v1/{name}", method=method, headers={"Authorization": "Bearer console"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30):
        pass
