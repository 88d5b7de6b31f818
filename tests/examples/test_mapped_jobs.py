"""The task group with several jobs: of a function, where one fails, and of files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault, RowFault, RowFaultKind
from tests.examples.test_examples import dag_bag
from tests.small_jobs import make_jobs_small

if TYPE_CHECKING:
    from pathlib import Path

    from google.cloud import bigquery, storage

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
FILES = """
from datetime import datetime
from airflow.providers.common.compat.sdk import dag
from airflow_gemini_batch.task_groups import gemini_batch

@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def many_files():
    gemini_batch(
        input_uri="gs://BUCKET/{{ dag.dag_id }}/*.jsonl",
        model="gemini-3.5-flash",
        location="global",
        staging_uri="gs://BUCKET/group",
        results_table="TABLE",
        poll_interval=0.1,
        requests=REQUESTS,
    )

many_files()
"""
pytestmark = [pytest.mark.xdist_group("examples"), pytest.mark.filterwarnings("default")]


def run_dag(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Airflow 3 runs only DAGs of a known bundle.
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = [{"name": name.replace("_", "-"), **bundle, "kwargs": {"path": str(folder)}}]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    (folder / f"{name}.py").write_text(text)
    bag = dag_bag()(folder)
    assert bag.import_errors == {}
    return bag.dags[name].test()


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
    text = DAG.replace("BUCKET", bucket).replace("TABLE", table)

    run = run_dag("several_jobs", text, tmp_path, monkeypatch)

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


@pytest.mark.parametrize("composed", [False, True])
def test_many_files_are_few_jobs(
    stack: RunningStack,
    airflow_db: Path,
    tmp_path: Path,
    bucket: str,
    dataset: str,
    bigquery_client: bigquery.Client,
    storage_client: storage.Client,
    monkeypatch: pytest.MonkeyPatch,
    composed: bool,
) -> None:
    """Each row is answered once, and says which file it is from."""
    make_jobs_small(monkeypatch, tmp_path, 5)
    stack.vertex.clear()
    stack.vertex.faults = FaultPlan()
    files = {f"gs://{bucket}/many_files/{n}.jsonl": [f"row-{n}-{row}" for row in range(2)] for n in range(4)}
    for uri, keys in files.items():
        lines = [{"key": key, "request": {"contents": [{"parts": [{"text": key}]}]}} for key in keys]
        # Without a newline at the end.
        text = "\n".join(map(json.dumps, lines))
        storage_client.bucket(bucket).blob(uri.split("/", 3)[3]).upload_from_string(text)
    requests = {"compose_into": f"gs://{bucket}/composed"} if composed else {}
    text = FILES.replace("BUCKET", bucket).replace("TABLE", f"{dataset}.answers")

    run = run_dag("many_files", text.replace("REQUESTS", repr(requests)), tmp_path, monkeypatch)

    assert run.state == "success"
    inputs = sorted(job["inputConfig"]["gcsSource"]["uris"] for job in stack.vertex.jobs)
    uris = list(files)
    query = f"SELECT key, status, source_uri FROM `{dataset}.answers`"
    rows = {row["key"]: row for row in bigquery_client.query(query).result()}
    assert sorted(rows) == sorted(key for keys in files.values() for key in keys)
    assert {row["status"] for row in rows.values()} == {"succeeded"}
    if composed:
        assert [len(each) for each in inputs] == [1, 1]
        assert {row["source_uri"] for row in rows.values()} == {uri for (uri,) in inputs}
    else:
        assert inputs == [uris[:2], uris[2:]]
        assert {key: row["source_uri"] for key, row in rows.items()} == {
            key: uri for uri, keys in files.items() for key in keys
        }
