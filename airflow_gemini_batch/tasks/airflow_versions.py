"""What depends on the Airflow version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.jobs.identity import RunIdentity


def run_identity(context: Context) -> RunIdentity:
    """The identity of the task run that is executing."""
    from airflow_gemini_batch.jobs.identity import RunIdentity

    ti = context["ti"]
    return RunIdentity(ti.dag_id, ti.task_id, ti.run_id, -1 if ti.map_index is None else ti.map_index)


class TaskState:
    """The job name in ``task_state_store``, which unlike XCom survives a retry. Needs Airflow 3.3."""

    _KEY = "gemini_batch_job"

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    def read(self) -> JobName | None:
        """Return the job that an earlier try recorded, if any."""
        name = self._store.get(self._KEY) if self._store is not None else None
        try:
            return JobName.parse(name) if name else None
        except InvalidParameterError:
            return None

    def write(self, name: JobName) -> None:
        """Record a job."""
        if self._store is not None:
            self._store.set(self._KEY, str(name))
