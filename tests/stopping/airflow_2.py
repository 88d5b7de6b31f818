"""``python -m tests.stopping.airflow_2``: reads lines ``ACTION DAG_ID…``, and does it as a user."""

from __future__ import annotations

import sys

RUN_ID, TASK_ID = "stopped", "submit"


def main() -> None:
    """Answer each line with ``done``."""
    from airflow.models import DagBag

    bag = DagBag(read_dags_from_db=False, include_examples=False)
    print("ready", flush=True)
    for line in sys.stdin:
        action, *dag_ids = line.split()
        for dag_id in dag_ids:
            _act(bag.get_dag(dag_id), action)
        print("done", flush=True)


def _act(dag, action: str) -> None:
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState

    if action == "trigger":
        trigger_dag(dag.dag_id, run_id=RUN_ID)
        return
    with create_session() as session:
        if action == "clear":
            of_run = (TaskInstance.dag_id == dag.dag_id, TaskInstance.run_id == RUN_ID)
            clear_task_instances(session.query(TaskInstance).filter(*of_run).all(), session, dag=dag)
        else:
            state = {"mark_failed": TaskInstanceState.FAILED, "mark_success": TaskInstanceState.SUCCESS}[
                action
            ]
            dag.set_task_instance_state(task_id=TASK_ID, run_id=RUN_ID, state=state, session=session)


if __name__ == "__main__":
    main()
