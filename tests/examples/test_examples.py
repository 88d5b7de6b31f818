"""Every example DAG, run to success against the local stack as it stands."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.faults.plan import FaultPlan

if TYPE_CHECKING:
    from google.cloud import bigquery

    from tests.conftest import RunningStack

FOLDER = Path(__file__).parents[2] / "example_dags"
TABLES = {
    "gemini_batch_minimal": ("answers", 20),
    "gemini_batch_gcs_to_gcs": ("answers_gcs_gcs", 20),
    "gemini_batch_gcs_to_bigquery": ("answers_gcs_bigquery", 20),
    "gemini_batch_bigquery_to_gcs": ("answers_bigquery_gcs", 20),
    "gemini_batch_bigquery_to_bigquery": ("answers_bigquery_bigquery", 20),
    "gemini_batch_mapped": ("answers_mapped", 20),
    "gemini_batch_from_bigquery": ("tickets", 3),
    "gemini_batch_decorator": ("reviews", 3),
    "gemini_batch_task_group": ("reviews_of_group", 3),
    "gemini_batch_retry": ("answers_retried", 20),
    "gemini_batch_embeddings": ("article_embeddings", 4),
    "gemini_batch_demo": ("python_distributions", None),
}
# The names of mapped tasks, by their map index.
NAMES = {
    "gemini_batch_mapped": ["part-0.jsonl", "part-1.jsonl"],
    "gemini_batch_task_group": ["job 1"],
}
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


def run_by_hand(dag: Any) -> Any:
    """Run a DAG as one that is triggered without a date. On Airflow 2, every run has one."""
    has_no_date = "logical_date" in signature(dag.test).parameters
    return dag.test(logical_date=None) if has_no_date else dag.test()


@pytest.mark.parametrize("dag_id", TABLES)
def test_example(
    dag_id: str, dags: dict[str, Any], bigquery_client: bigquery.Client, stack: RunningStack
) -> None:
    stack.vertex.faults = FaultPlan()
    stack.vertex.clear()
    run = run_by_hand(dags[dag_id])
    assert run.state == "success"
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


@pytest.mark.parametrize("dag_id", TABLES)
def test_example_explains_itself(dag_id: str, dags: dict[str, Any]) -> None:
    dag = dags[dag_id]
    assert dag.description
    assert dag.doc_md.strip()
    if dag_id == WITHOUT_PARAMS:
        return
    assert {"model", "location", "bucket", "dataset"} <= set(dag.params)
    in_file = [task for each in dags.values() if each.fileloc == dag.fileloc for task in each.tasks]
    templates = [str(getattr(task, field)) for task in in_file for field in task.template_fields]
    for name in dag.params:
        assert dag.params.get_param(name).description
        assert any(f"params.{name} " in each for each in templates)


def test_no_example_is_left_out(dags: dict[str, Any]) -> None:
    assert set(dags) == set(TABLES)
