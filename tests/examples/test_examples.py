"""Every example DAG, run to success against the local stack as it stands."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.faults.plan import FaultPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud import bigquery

    from tests.conftest import RunningStack

try:
    from airflow.models.hitl import HITLDetail

    HAS_APPROVALS = True
except ImportError:  # Before Airflow 3.1
    HAS_APPROVALS = False

FOLDER = Path(__file__).parents[2] / "example_dags"
TABLES = {
    "gemini_batch_minimal": ("answers", 20),
    "gemini_batch_gcs_to_gcs": ("answers_gcs_gcs", 20),
    "gemini_batch_gcs_to_bigquery": ("answers_gcs_bigquery", 20),
    "gemini_batch_bigquery_to_gcs": ("answers_bigquery_gcs", 20),
    "gemini_batch_bigquery_to_bigquery": ("answers_bigquery_bigquery", 20),
    "gemini_batch_mapped": ("answers_mapped", 20),
    "gemini_batch_many_files": ("answers_of_files", 20),
    "gemini_batch_from_bigquery": ("tickets", 3),
    "gemini_batch_decorator": ("reviews", 3),
    "gemini_batch_task_group": ("reviews_of_group", 3),
    "gemini_batch_retry": ("answers_retried", 20),
    "gemini_batch_embeddings": ("article_embeddings", 4),
    "gemini_batch_demo": ("python_distributions", None),
    "gemini_batch_alerts": ("answers_told", 20),
}
if HAS_APPROVALS:
    TABLES["gemini_batch_approval"] = ("answers_approved", 20)
# The names of mapped tasks, by their map index.
NAMES = {
    "gemini_batch_mapped": ["part-0.jsonl", "part-1.jsonl"],
    "gemini_batch_many_files": ["job 1"],
    "gemini_batch_task_group": ["job 1"],
}
# It has no results.
CLEANUP = "gemini_batch_cleanup"
# Its point is to be short.
WITHOUT_PARAMS = "gemini_batch_minimal"
# The whole of Airflow runs here, with warnings of its own.
pytestmark = [pytest.mark.xdist_group("examples"), pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def dags(stack: RunningStack, airflow_db: Path) -> dict[str, Any]:
    """DAG by its id, from the files as they are, with the data that they expect."""
    from airflow_gemini_batch.local_stack.samples import seed

    seed(stack.addresses)
    bag = dag_bag()(FOLDER)
    assert bag.import_errors == {}
    return dict(bag.dags)


def dag_bag() -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2
        from airflow.models.dagbag import DagBag
    return DagBag


def run_by_hand(dag: Any, conf: dict[str, Any] | None = None) -> Any:
    """Run a DAG as one that is triggered without a date. On Airflow 2, every run has one."""
    has_no_date = "logical_date" in signature(dag.test).parameters
    return dag.test(logical_date=None, run_conf=conf) if has_no_date else dag.test(run_conf=conf)


@contextmanager
def approving(is_needed: bool) -> Iterator[list[str]]:
    """Approve what a task asks for, as the UI does; yield what was asked."""
    asked: list[str] = []
    is_over = threading.Event()

    def approve() -> None:
        while not asked and not is_over.wait(0.2):
            with create_session() as session:
                found = session.query(HITLDetail).filter_by(responded_at=None).first()
                if found and found.task_instance.state == "awaiting_input":
                    asked.append(found.subject)
                    found.chosen_options, found.responded_at = ["Approve"], datetime.now(UTC)
                    event = TriggerEvent(found.as_resume_event_payload())
                    handle_event_submit(event, task_instance=found.task_instance, session=session)

    person = threading.Thread(target=approve)
    if is_needed:
        from airflow.models.trigger import handle_event_submit
        from airflow.triggers.base import TriggerEvent
        from airflow.utils.session import create_session

        person.start()
    try:
        yield asked
    finally:
        is_over.set()
        if is_needed:
            person.join()


@pytest.mark.parametrize("dag_id", TABLES)
def test_example(
    dag_id: str, dags: dict[str, Any], bigquery_client: bigquery.Client, stack: RunningStack
) -> None:
    stack.vertex.faults = FaultPlan()
    stack.vertex.clear()
    with approving(dag_id == "gemini_batch_approval") as asked:
        run = run_by_hand(dags[dag_id])
    assert run.state == "success"
    assert [re.sub(r"[\d.]+", "N", subject) for subject in asked] == (
        ["This will cost $N to $N: go on?"] if dag_id == "gemini_batch_approval" else []
    )
    table, expected = TABLES[dag_id]
    rows = list(bigquery_client.list_rows(f"{bigquery_client.project}.my_dataset.{table}"))
    assert {row["status"] for row in rows} == {"succeeded"}
    assert len({row["key"] for row in rows}) == len(rows)
    assert len(rows) == expected or (expected is None and len(rows) > 100)
    mapped = [each for each in run.get_task_instances() if each.map_index >= 0]
    names = NAMES.get(dag_id, [])
    assert bool(mapped) == bool(names)
    assert [each.rendered_map_index for each in mapped] == [names[each.map_index] for each in mapped]
    if dag_id == "gemini_batch_retry":
        rounds = [
            (each["state"], int(each["completionStats"]["successfulCount"])) for each in stack.vertex.jobs
        ]
        assert rounds == [("JOB_STATE_EXPIRED", 12), ("JOB_STATE_SUCCEEDED", 8)]
    if dag_id == "gemini_batch_embeddings":
        check_nearest(
            list(bigquery_client.list_rows(f"{bigquery_client.project}.my_dataset.nearest_articles"))
        )


def check_nearest(rows: list[Any]) -> None:
    nearest = sorted(rows, key=lambda row: row["distance"])
    assert nearest[0]["key"] == "article-3"
    assert nearest[0]["distance"] < nearest[1]["distance"] < 1


def test_the_example_that_cleans_up_deletes_old_jobs(
    dags: dict[str, Any], bigquery_client: bigquery.Client, stack: RunningStack
) -> None:
    stack.vertex.faults = FaultPlan()
    stack.vertex.clear()
    assert run_by_hand(dags["gemini_batch_minimal"]).state == "success"
    assert run_by_hand(dags[CLEANUP]).state == "success"
    assert len(stack.vertex.jobs) == 1
    assert run_by_hand(dags[CLEANUP], {"days": 0}).state == "success"
    assert stack.vertex.jobs == ()


@pytest.mark.parametrize("dag_id", [*TABLES, CLEANUP])
def test_example_explains_itself(dag_id: str, dags: dict[str, Any]) -> None:
    dag = dags[dag_id]
    assert dag.description
    assert dag.doc_md.strip()
    if dag_id == WITHOUT_PARAMS:
        return
    expected = {"location", "days"} if dag_id == CLEANUP else {"model", "location", "bucket", "dataset"}
    assert expected <= set(dag.params)
    in_file = [task for each in dags.values() if each.fileloc == dag.fileloc for task in each.tasks]
    templates = [str(getattr(task, field)) for task in in_file for field in task.template_fields]
    for name in dag.params:
        assert dag.params.get_param(name).description
        assert any(f"params.{name} " in each for each in templates)


def test_no_example_is_left_out(dags: dict[str, Any]) -> None:
    assert set(dags) == {*TABLES, CLEANUP}
