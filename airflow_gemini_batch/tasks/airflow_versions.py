"""What differs between the versions of Airflow, each with its reason and the version that ends it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.identity import RunIdentity

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

_ASK_SECONDS = 3.0
_GOES_ON = (None, "running", "queued", "scheduled", "deferred")


def run_identity(context: Context) -> RunIdentity:
    """The identity of the task run that is executing."""
    ti = context["ti"]
    return RunIdentity(ti.dag_id, ti.task_id, ti.run_id, -1 if ti.map_index is None else ti.map_index)


class Notebook:
    """``task_state_store``, which unlike XCom outlives a retry. Airflow has it from 3.3 on."""

    _KEY = "gemini_batch_job"

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    def read(self) -> JobName | None:
        """The job that an earlier try noted down."""
        note = self._store.get(self._KEY) if self._store is not None else None
        try:
            return JobName.parse(note) if note else None
        except InvalidParameterError:
            return None

    def write(self, name: JobName) -> None:
        """Note a job down."""
        if self._store is not None:
            self._store.set(self._KEY, str(name))


def was_stopped_by_user(ti: Any) -> bool:
    """Whether a task that is told to end is no longer wanted, as opposed to a worker that shuts down.

    Airflow sends the same signal for both, so the state of the task is asked for: from the database in
    Airflow 2, from the API server in Airflow 3. In doubt the answer is no: a job that goes on can be
    attached to, a cancelled one is paid again.
    """
    states: list[str | None] = []

    def ask() -> None:
        try:
            if hasattr(ti, "current_state"):
                states.append(ti.current_state())
                return
            index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
            runs = ti.get_task_states(ti.dag_id, index, [ti.task_id], run_ids=[ti.run_id])
            states.extend(state for tasks in runs.values() for state in tasks.values())
        except Exception as error:
            log.warning("Airflow does not say whether this task is still wanted: %s", type(error).__name__)

    # The main thread may be in the middle of a talk with its supervisor, and hold the line.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout=_ASK_SECONDS)
    return bool(states) and not any(state in _GOES_ON for state in states)
