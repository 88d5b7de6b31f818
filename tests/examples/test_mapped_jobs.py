"""The task group with several jobs, of which one fails: the others are landed and retried."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault, RowFault, RowFaultKind
from tests.examples.test_examples import dag_bag
from tests.small_jobs import make_jobs_small

if TYPE_CHECKING:
    from pathlib import Path

    from google.cloud import bigquery

    from tests.conftest import RunningStack

DAG = """
from datetime import datetime
from airflow.providers.common.compat.sdk import dag
from airflow_gemini_batch.task_groups import gemini_batch

def prompts():
    for number in range(6):
        yield f"row-{number}", f"Hello {number}"

@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def several_jobs():
    gemini_batch(
        prompts,
        model="gemini-3.5-flash",
        location="global",
        staging_uri="gs://BUCKET/group",
        results_table="TABLE",
        max_retry_rounds=1,
        poll_interval=0.1,
    )

several_jobs()
"""
pytestmark = [pytest.mark.xdist_group("examples"), pytest.mark.filterwarnings("default")]


def test_a_job_that_fails_does_not_hold_back_the_others(
    stack: RunningStack,
    airflow_db: Path,
    tmp_path: Path,
    bucket: str,
    dataset: str,
    bigquery_client: bigquery.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_jobs_small(monkeypatch, tmp_path, 2)
    stack.vertex.clear()
    stack.vertex.faults = FaultPlan(
        jobs=[JobFault(nth=(2,), ends=JobState.FAILED, after_rows=0, exports=False)],
        rows=[RowFault(kind=RowFaultKind.EXHAUSTED, nth=(2,))],  # A retry has only one row.
    )
    table = f"{dataset}.answers"
    # Airflow 3 runs only DAGs of a known bundle.
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [{"name": "several-jobs", **bundle, "kwargs": {"path": str(tmp_path)}}]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    (tmp_path / "several_jobs.py").write_text(DAG.replace("BUCKET", bucket).replace("TABLE", table))
    bag = dag_bag()(tmp_path)
    assert bag.import_errors == {}

    run = bag.dags["several_jobs"].test()

    assert run.state == "failed"
    states: dict[str, dict[int, str]] = {}
    for each in run.get_task_instances():
        states.setdefault(each.task_id.removeprefix("gemini_batch."), {})[each.map_index] = str(each.state)
    (failed,) = [index for index, state in states["job.wait"].items() if state == "failed"]
    others = [index for index in range(3) if index != failed]
    assert states["requests"] == {-1: "success"}
    assert states["job.submit"] == dict.fromkeys(range(3), "success")
    for task in ("land", "retry"):
        done = {**dict.fromkeys(others, "success"), failed: "upstream_failed"}
        assert states[f"job.{task}"] == done, task
    rows = list(bigquery_client.query(f"SELECT key, status FROM `{table}`").result())
    assert len({row["key"] for row in rows}) == len(rows) == 4
    assert {row["status"] for row in rows} == {"succeeded"}
