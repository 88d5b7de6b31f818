"""The jobs of the emulator, from creation to the final state.

The clock or the reads of a job move it along its path of states (see ``job_clock``). Meanwhile its runner, a
thread, processes the rows; it writes the output when the path has ended. So a job is shown as ended only when
its output can be read.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import CompletionStats, JobName, JobState
from airflow_gemini_batch.emulator.faults.calls import JobPlan
from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.running.job_clock import Walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_gemini_batch.emulator.faults.plan import CallFault
    from airflow_gemini_batch.emulator.running.job_clock import Pace

NOTHING_WRONG = JobPlan()
# How long a read waits for the output of a job whose path has ended, unless the pace depends on the clock.
PATIENCE_SECONDS = 10.0


class Abandoned(Exception):  # noqa: N818
    """The emulator was stopped or cleared while the job was running."""


@dataclass(frozen=True)
class Outcome:
    """The result of a job.

    :param output_info: ``outputInfo`` of the resource
    :param shows_stats: whether the resource has ``completionStats``
    """

    state: JobState
    error: errors.JobFailedError | None = None
    stats: CompletionStats | None = None
    output_info: Mapping[str, str] | None = None
    shows_stats: bool = True


def rfc3339(time_: datetime) -> str:
    """Format a UTC time as the service does: microseconds and ``Z``."""
    return time_.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Job:
    """One job; thread-safe.

    :param number: increases with every job, so that lists have an order
    :param request: the body of the create call, camelCase
    :param plan: its faults
    """

    def __init__(
        self,
        name: JobName,
        number: int,
        request: Mapping[str, Any],
        pace: Pace,
        plan: JobPlan = NOTHING_WRONG,
    ) -> None:
        self.plan = plan
        self.name = name
        self.number = number
        self.request = request
        self.created = utc_now()
        path = plan.fault.path if plan.fault else ()
        self._walk = Walk(pace, time.monotonic(), path) if path else Walk(pace, time.monotonic())
        self._lists = 0
        self._changed = threading.Condition()
        self._outcome: Outcome | None = None
        self._share_run: float | None = None
        self._abandoned = False
        self._started_at: datetime | None = None
        self._ended_at: datetime | None = None
        self._updated_at = self.created
        self._first = self._seen = self._walk.path[0]

    def as_created(self) -> dict[str, Any]:
        """Return the resource for the create response: in its first state, even if it has ended since."""
        at = rfc3339(self.created)
        times = {"createTime": at, "updateTime": at}
        return {"name": str(self.name), **self.request, "state": str(self._first), **times}

    def look(self) -> dict[str, Any]:
        """Return the current resource, without counting a read.

        At a pace that does not depend on the clock, wait for the runner if the path has ended.
        """
        with self._changed:
            if self._walk.pace.is_deterministic and self._path_is_over():
                self._changed.wait_for(self._is_settled, PATIENCE_SECONDS)
            return self._resource()

    @property
    def completed_rows(self) -> int:
        """The rows that the job has completed and that are charged, whatever its resource shows."""
        stats = self._outcome.stats if self._outcome else None
        return (stats.successful or 0) if stats else 0

    def count_read(self) -> None:
        """Count a read of the job."""
        with self._changed:
            self._walk = self._walk.shown()
            self._changed.notify_all()

    def is_hidden(self, faults: Sequence[CallFault]) -> bool:
        """Return whether the faults of a list call hide the job, and count the call."""
        age = (utc_now() - self.created).total_seconds()
        with self._changed:
            hidden = any(fault.hides(age, self._lists) for fault in faults)
            self._lists += 1
            return hidden

    def cancel(self) -> None:
        """Start to cancel.

        :raises CallError: when the job has ended
        """
        state = JobState(self.look()["state"])
        with self._changed:
            if self._outcome or state.is_terminal:
                raise errors.failed_precondition(
                    f"Cannot cancel BatchPredictionJob {self.name}: it is in a terminal state, {state}."
                )
            if self._share_run is None:
                now = time.monotonic()
                self._share_run = self._walk.share_run(now)
                self._walk = self._walk.turned((JobState.CANCELLING,), now)
                self._changed.notify_all()

    def abandon(self) -> None:
        """Make the runner end without writing anything more."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def check_abandoned(self) -> None:
        """Raise ``Abandoned`` if :meth:`abandon` was called."""
        if self._abandoned:
            raise Abandoned

    def wait_for_path(self) -> float | None:
        """Wait until the path has ended; called by the runner.

        :return: None, or for a cancelled job the share of RUNNING that had passed by then, 0 to 1
        :raises Abandoned: when the emulator stops or is cleared
        """
        with self._changed:
            while not self._path_is_over():
                self.check_abandoned()
                self._changed.wait(self._walk.seconds_until(len(self._walk.path), time.monotonic()))
            self.check_abandoned()
            return self._share_run

    def finish(self, outcome: Outcome) -> None:
        """Set the result, after the output was written."""
        with self._changed:
            if self._share_run != 0.0:
                self._note(JobState.RUNNING)
            self._outcome = outcome
            self._note(outcome.state)
            self._changed.notify_all()

    def _path_is_over(self) -> bool:
        return self._walk.state(time.monotonic()) is None

    def _is_settled(self) -> bool:
        return self._outcome is not None or self._abandoned

    def _state(self) -> JobState:
        if self._outcome:
            return self._outcome.state
        # The path may have ended while the output is still being written.
        return self._walk.state(time.monotonic()) or self._walk.path[-1]

    def _note(self, state: JobState) -> None:
        """Record the time at which the job entered a state."""
        if state is self._seen:
            return
        self._seen, self._updated_at = state, utc_now()
        if state is JobState.RUNNING and not self._started_at:
            pace = self._walk.pace
            at = self._updated_at if pace.reads else self.created + timedelta(seconds=pace.seconds or 0)
            self._started_at = min(at, self._updated_at)
        if state.is_terminal:
            self._ended_at = self._updated_at

    def _resource(self) -> dict[str, Any]:
        state = self._state()
        self._note(state)
        resource = {"name": str(self.name), **self.request, "state": str(state), "modelVersionId": "1"}
        if self._outcome:
            resource.update(_ending(self._outcome))
        times = {
            "createTime": self.created,
            "startTime": self._started_at,
            "endTime": self._ended_at,
            "updateTime": self._updated_at,
        }
        return resource | {field: rfc3339(at) for field, at in times.items() if at}


def _ending(outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if outcome.error:
        fields["error"] = {"code": outcome.error.code, "message": outcome.error.message}
    if outcome.stats and outcome.shows_stats:
        # The service writes counts as strings, and omits those that are zero.
        counts = {
            "successfulCount": outcome.stats.successful,
            "failedCount": outcome.stats.failed,
            "incompleteCount": outcome.stats.incomplete,
        }
        fields["completionStats"] = {field: str(count) for field, count in counts.items() if count}
    if outcome.output_info:
        fields["outputInfo"] = dict(outcome.output_info)
    return fields


class JobStore:
    """All jobs by name; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._count = 0

    def create(
        self, parent: str, request: Mapping[str, Any], pace: Pace, plan: JobPlan = NOTHING_WRONG
    ) -> Job:
        """Add a job with a new name.

        Names are random, not seeded: the provider derives BigQuery job ids from them, and these ids must stay
        unique in a BigQuery emulator that outlives this process.
        """
        _, project, _, location = parent.split("/")
        with self._lock:
            self._count += 1
            name = JobName(project, location, str(10**18 + secrets.randbelow(8 * 10**18)))
            job = self._jobs[str(name)] = Job(name, self._count, request, pace, plan)
            return job

    def get(self, name: str) -> Job:
        """Return a job.

        :raises CallError: 404
        """
        with self._lock:
            if name not in self._jobs:
                raise errors.job_not_found(name)
            return self._jobs[name]

    def delete(self, name: str) -> None:
        """Delete a job that has ended.

        :raises CallError: 404, or 400 when it has not ended
        """
        state = JobState(self.get(name).look()["state"])
        if not state.is_terminal:
            raise errors.failed_precondition(
                f"Cannot delete BatchPredictionJob {name}: it is in state {state}. "
                "Only jobs in a terminal state can be deleted."
            )
        with self._lock:
            self._jobs.pop(name, None)

    def newest_first(self, parent: str = "") -> Sequence[Job]:
        """Return the jobs of a parent, or all jobs if it is empty."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if not parent or job.name.parent == parent]
        return sorted(jobs, key=lambda job: -job.number)

    def clear(self) -> Sequence[Job]:
        """Delete all jobs and end their runners; return the jobs."""
        with self._lock:
            jobs = list(self._jobs.values())
            self._jobs.clear()
        for job in jobs:
            job.abandon()
        return jobs
