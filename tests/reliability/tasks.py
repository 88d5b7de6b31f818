"""Runs tasks as Airflow does: with retries, deferral and resumption, the real operators and trigger."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    TaskDeferred,
)

from airflow_gemini_batch.batch_job import BatchJob, JobState
from airflow_gemini_batch.exceptions import GeminiBatchError
from airflow_gemini_batch.jobs.identity import Mark
from tests.task_instance import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_gemini_batch.emulator.server import Emulator

_T = TypeVar("_T")

Context = Any
TRIES = 6
UNCHARGED = (JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING, JobState.EXPIRED)


class TaskFailedError(Exception):
    """The task failed: every try failed, or one failed without retry. The cause is its last error."""


@dataclass
class Task:
    """One run of one task.

    :param make: creates a new operator for every try, as a new process would
    :param store: Airflow's ``task_state_store``, if available
    """

    make: Callable[[], Any]
    ti: TaskInstance = field(default_factory=TaskInstance)
    store: Mapping[str, Any] | None = None
    failures: list[Exception] = field(default_factory=list)

    def run(self, tries: int = TRIES) -> Any:
        """Run the task until it succeeds. Errors of other packages propagate.

        :raises TaskFailedError: it did not succeed
        """
        for _ in range(tries):
            try:
                return self._try()
            except (AirflowFailException, AirflowSensorTimeout) as error:
                self.failures.append(error)
                if not isinstance(error.__cause__, GeminiBatchError):
                    raise
                raise TaskFailedError(self) from error.__cause__
            except GeminiBatchError as error:
                self.failures.append(error)
            self.ti.try_number += 1
        raise TaskFailedError(self) from self.failures[-1]

    def _try(self) -> Any:
        context: Context = {"ti": self.ti}
        if self.store is not None:
            context["task_state_store"] = self.store
        try:
            return self.make().execute(context)
        except TaskDeferred as deferred:
            event = asyncio.run(self._first_event(deferred.trigger))
            return getattr(self.make(), deferred.method_name)(context, event)

    async def _first_event(self, trigger: Any) -> dict[str, Any]:
        """Run a trigger as the triggerer would: recreated from its serialized form."""
        _, kwargs = trigger.serialize()
        async for event in type(trigger)(**kwargs).run():
            return event.payload  # type: ignore[no-any-return]
        raise AssertionError("the trigger ended without an event")


def paid_twice(emulator: Emulator) -> list[str]:
    """Return the run and request of jobs in the emulator that were charged more than once."""
    jobs = [BatchJob.from_resource(resource) for resource in emulator.jobs]
    counts = Counter(Mark.read(job) for job in jobs if job.state not in UNCHARGED)
    return [str(mark) for mark, count in counts.items() if count > 1]
