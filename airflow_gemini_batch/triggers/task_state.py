"""Whether Airflow runs a task again, so that there will be somebody to wait for its job."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

RUNS_AGAIN = {
    None: True,  # cleared
    "scheduled": True,
    "queued": True,
    "running": True,  # the worker shuts down, or the next try runs already
    "restarting": True,  # cleared while it ran
    "up_for_retry": True,  # also when the worker was silent for longer than the heartbeat timeout
    "up_for_reschedule": True,
    "deferred": True,
    "awaiting_input": True,
    "shutdown": True,  # Airflow 2 has this state, and does not use it
    "failed": False,  # marked by a user, or failed without retries left
    "success": False,  # marked by a user
    "skipped": False,  # the DAG run timed out
    "upstream_failed": False,
    "removed": False,  # the task vanished from the DAG
}
"""Every state of a task in Airflow 2.11 and 3.3, and whether the task runs again."""


_UNKNOWN = "unknown"


def is_over(state: str | None) -> bool:
    """Whether a task in that state will not run again. ``False`` for a state that is not known here."""
    return not RUNS_AGAIN.get(state, True)


def task_state(ti: Any) -> str | None:
    """The state of a task, from the database in Airflow 2, and from the API server in Airflow 3.

    Blocks, for as long as they do.

    :return: ``"unknown"`` if the state cannot be read: a retry can attach to a running job, but has to pay
        for a cancelled one again
    """
    try:
        if hasattr(ti, "current_state"):
            return _value(ti.current_state())
        if not hasattr(ti, "get_task_states"):
            # In the triggerer, unless the trigger renders templates.
            from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

            states = RuntimeTaskInstance.get_task_states
        else:
            states = ti.get_task_states
        index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
        runs = states(ti.dag_id, index, [ti.task_id], run_ids=[ti.run_id])
        found = {_value(state) for tasks in runs.values() for state in tasks.values()}
        return found.pop() if len(found) == 1 else _UNKNOWN
    except Exception as error:
        log.warning("Cannot read from Airflow whether this task is over: %s", type(error).__name__)
        return _UNKNOWN


def has_retries_left(ti: Any) -> bool:
    """Whether Airflow runs the task once more if this try fails."""
    return bool(ti.try_number <= ti.max_tries)


def _value(state: Any) -> str | None:
    # An enum whose members are strings, or the string.
    return None if state is None else str(getattr(state, "value", state))
