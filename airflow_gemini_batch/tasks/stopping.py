"""What happens to the job of a task that is stopped while it executes."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_gemini_batch.exceptions import GeminiBatchError
from airflow_gemini_batch.triggers.task_state import has_retries_left, is_over, task_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_gemini_batch.batch_job import JobName
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.tasks.options import WaitOptions

    class _HasJobs(Protocol):
        _to_cancel: JobsToCancel


log = logging.getLogger(__name__)

# Airflow sends SIGKILL five seconds after SIGTERM.
_SECONDS = 3.0

_F = TypeVar("_F", bound="Callable[..., Any]")


@dataclass(eq=False, repr=False)
class JobsToCancel:
    """The jobs that ``on_kill`` cancels: those of a task run, while the task executes.

    Airflow calls ``on_kill`` on SIGTERM, on top of whatever ``execute`` is doing; after ``execute`` was ended
    by ``execution_timeout``; and also long after it has returned, to a process that lingers after the success
    of its task. So there is nothing to cancel once ``execute`` has ended, unless by a timeout.
    """

    _target: _Target | None = None
    _is_unwanted: bool = False
    _is_stopped: bool = False

    def expect(
        self,
        connect: Callable[[], GeminiBatchHook],
        options: WaitOptions,
        ti: Any,
        find: Callable[[], list[JobName]] | None = None,
    ) -> None:
        """Call this right before something may be created.

        :param connect: returns the hook
        :param find: cancels the active jobs of this task run, and returns their names
        """
        self._target = _Target(connect, options, ti, find)

    def is_stopped(self) -> bool:
        """Whether Airflow has called ``on_kill``: nothing may be created from then on."""
        return self._is_stopped

    def found(self, name: JobName) -> None:
        """Call this when the job is known: it is then cancelled without looking it up."""
        if self._target:
            self._target.name = name
            if self._is_unwanted:
                # The task was stopped while the response to the create was on its way.
                log.warning("%s", self._target.cancel())

    @contextmanager
    def while_executing(self) -> Iterator[None]:
        """Forget the jobs when ``execute`` ends."""
        self._is_stopped = False
        try:
            yield
        except AirflowTaskTimeout:
            if self._target:
                self._target.has_timed_out = True
            raise
        except BaseException:
            self._target = None
            raise
        self._target = None

    def on_kill(self) -> None:
        """Cancel the jobs if nobody is going to wait for them; returns after three seconds at most."""
        self._is_stopped = True
        if not (target := self._target):
            return
        outcome: list[str] = []

        def stop() -> None:
            self._is_unwanted = target.is_unwanted()
            outcome.append(target.cancel() if self._is_unwanted else _GOES_ON)

        # The main thread may be in the middle of a request, holding the lock that a thread waits for. So it
        # also does the logging: it is the only one that cannot wait for itself.
        thread = threading.Thread(target=stop, daemon=True)
        thread.start()
        thread.join(_SECONDS)
        log.warning("%s", outcome[0] if outcome else f"{_UNCONFIRMED} {target}")


_GOES_ON = (
    "If this task run has a batch job, the job keeps running and costs money; a new try attaches to it."
)
_UNCONFIRMED = "It is not certain that the batch job is being cancelled; look in the console:"


@dataclass(eq=False, repr=False)
class _Target:
    connect: Callable[[], GeminiBatchHook]
    options: WaitOptions
    ti: Any
    find: Callable[[], list[JobName]] | None
    name: JobName | None = None
    has_timed_out: bool = False
    _cancelled: list[JobName] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.name or "one of this task run")

    def is_unwanted(self) -> bool:
        """Whether the job is to be cancelled; ``False`` if in doubt: an unwanted job costs money once."""
        if self.has_timed_out:
            return self.options.cancel_on_timeout and not has_retries_left(self.ti)
        return self.options.cancel_on_kill and is_over(task_state(self.ti))

    def cancel(self) -> str:
        """Cancel the known job first, then any other of this run, and say what was done."""
        problems = []
        try:
            if self.name and self.connect().cancel_job(self.name):
                self._cancelled.append(self.name)
        except GeminiBatchError as error:
            problems.append(str(error))
        try:
            self._cancelled += self.find() if self.find else ()
        except GeminiBatchError as error:
            problems.append(str(error))
        names = ", ".join(dict.fromkeys(map(str, self._cancelled)))
        if names:
            return f"Requested cancellation: {self._reason}. Completed rows are charged. Batch job: {names}"
        if problems:
            return f"{_UNCONFIRMED} {self}. {' '.join(problems)}"
        if self.name:
            return f"The batch job has ended, so it is not cancelled. Completed rows are charged. {self.name}"
        return "There was no batch job to cancel."

    @property
    def _reason(self) -> str:
        if self.has_timed_out:
            return "this task ran into execution_timeout, has no retries left, and cancel_on_timeout is set"
        return "this task was stopped and cancel_on_kill is set"


def forgets_jobs_at_the_end(execute: _F) -> _F:
    """Decorate ``execute`` and ``execute_complete`` of an operator that has ``_to_cancel``."""

    @wraps(execute)
    def wrapped(self: _HasJobs, *args: Any, **kwargs: Any) -> Any:
        with self._to_cancel.while_executing():
            return execute(self, *args, **kwargs)

    return wrapped  # type: ignore[return-value]
