"""The progress of the demo, read from Airflow's database and from the Vertex AI emulator."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.error
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import BatchJob, JobState
from airflow_gemini_batch.local_stack.rest import call

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_gemini_batch.local_stack.stack import StackAddresses


@dataclass(frozen=True)
class TaskView:
    """The state of one task of the run.

    :param seconds: how long it took, if it has ended
    :param returned: its return value, from XCom
    """

    state: str | None
    seconds: float | None = None
    returned: Any = None

    @property
    def has_ended(self) -> bool:
        """Whether the task has reached a final state."""
        return self.state in ("success", "failed", "upstream_failed", "skipped")


def tasks(database: Path) -> dict[str, TaskView]:
    """Read the tasks of the only run in Airflow's database; none while the database does not exist."""
    query = (
        "SELECT t.task_id, t.state, t.start_date, t.end_date, x.value FROM task_instance t "
        "LEFT JOIN xcom x ON x.run_id = t.run_id AND x.task_id = t.task_id AND x.key = 'return_value'"
    )
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1)
        ) as connection:
            rows = connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        # Absent, or locked by a writer; the caller reads again.
        return {}
    return {task_id: _view(*rest) for task_id, *rest in rows}


def _view(state: str | None, begun: str | None, ended: str | None, value: str | None) -> TaskView:
    seconds = None
    if begun and ended:
        seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
    returned = json.loads(value) if value else None
    if isinstance(returned, str):
        # Airflow stores a return value as JSON text inside JSON.
        with contextlib.suppress(ValueError):
            returned = json.loads(returned)
    return TaskView(state, seconds, returned)


@dataclass
class JobObserver:
    """The newest job in the emulator, and when each of its states was first seen."""

    addresses: StackAddresses
    location: str
    job: BatchJob | None = None
    _seen: dict[JobState, datetime] = field(default_factory=dict)

    def read(self) -> BatchJob | None:
        """Read the job again, unless it has ended."""
        if self.job and self.job.state.is_terminal:
            return self.job
        parent = f"projects/{self.addresses.project}/locations/{self.location}"
        try:
            page = call(f"{self.addresses.vertex_url}/v1/{parent}/batchPredictionJobs?pageSize=1")
        except urllib.error.URLError:
            return self.job
        for resource in page.get("batchPredictionJobs", []):
            self.job = BatchJob.from_resource(resource)
            self._seen.setdefault(self.job.state, datetime.now(UTC))
        return self.job

    def states(self) -> list[tuple[JobState, datetime]]:
        """Return the states with the time each began: the service's own time, where it has one."""
        if not self.job:
            return []
        job = self.job
        times = list(self._seen.items())
        own = {JobState.RUNNING: job.start_time, times[0][0]: job.create_time}
        if job.state.is_terminal:
            own[job.state] = job.end_time
        return [(state, own.get(state) or seen) for state, seen in times]
