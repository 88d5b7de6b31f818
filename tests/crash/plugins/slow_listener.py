"""A listener that takes longer than ``task_success_overtime``: Airflow then ends the process of the task."""

from __future__ import annotations

import sys
import time

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


@hookimpl
def on_task_instance_success(previous_state, task_instance):
    if task_instance.dag_id == "crash_listener" and task_instance.task_id == "submit":
        time.sleep(60)


class SlowListener(AirflowPlugin):
    name = "slow_listener"
    listeners = (sys.modules[__name__],)
