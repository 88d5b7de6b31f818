from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import conf

from airflow_gemini_batch.jobs.identity import RunIdentity


def execute(operator: Any, context: Any) -> Any:
    """Call ``execute`` without Airflow's guard, which in Airflow 2 works on the main thread only."""
    return type(operator).execute.__wrapped__(operator, context)


@dataclass
class TaskInstance:
    """What the operators ask of Airflow's task instance."""

    task_id: str = "submit"
    run_id: str = "run"
    dag_id: str = "dag"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    xcom: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value

    def get_first_reschedule_date(self, context: Any) -> None:
        """Airflow 3 asks it of a sensor that reschedules itself."""

    def clear(self) -> None:
        """Get all retries again, as when a user clears the task."""
        self.task = SimpleNamespace(retries=0)
        self.max_tries = self.try_number
        self.try_number += 1

    @property
    def identity(self) -> RunIdentity:
        installation = conf.get("gemini_batch", "installation")
        return RunIdentity(self.dag_id, self.task_id, self.run_id, self.map_index, installation=installation)
