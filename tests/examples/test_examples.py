"""Every example DAG, run to success against the local stack as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.faults.plan import FaultPlan, RowFault, RowFaultKind

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
# Of twenty rows, some fail in each of the first two jobs.
FAULTS = {
    "gemini_batch_retry": FaultPlan(
        rows=[
            RowFault(kind=RowFaultKind.EXHAUSTED, probability=0.2),
            RowFault(kind=RowFaultKind.DROPPED, probability=0.1),
        ],
        seed=1,
    )
}
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


@pytest.mark.parametrize("dag_id", TABLES)
def test_example(
    dag_id: str, dags: dict[str, Any], bigquery_client: bigquery.Client, stack: RunningStack
) -> None:
    stack.vertex.faults = FAULTS.get(dag_id, FaultPlan())
    run = dags[dag_id].test()
    assert run.state == "success"
    table, expected = TABLES[dag_id]
    rows = list(bigquery_client.list_rows(f"{bigquery_client.project}.my_dataset.{table}"))
    assert {row["status"] for row in rows} == {"succeeded"}
    assert len({row["key"] for row in rows}) == len(rows)
    assert len(rows) == expected or (expected is None and len(rows) > 100)


def test_the_example_of_embeddings_finds_the_nearest_texts(
    dags: dict[str, Any], bigquery_client: bigquery.Client
) -> None:
    assert dags["gemini_batch_embeddings"].test().state == "success"
    rows = list(bigquery_client.list_rows(f"{bigquery_client.project}.my_dataset.nearest_articles"))
    nearest = sorted(rows, key=lambda row: row["distance"])
    assert nearest[0]["key"] == "article-3"
    assert nearest[0]["distance"] < nearest[1]["distance"] < 1


def test_no_example_is_left_out(dags: dict[str, Any]) -> None:
    assert set(dags) == set(TABLES)
