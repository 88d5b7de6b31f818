"""Events in real processes of Airflow, whose triggerer is killed again and again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.local_stack.rest import call
from airflow_gemini_batch.local_stack.samples import seed
from tests.crash.airflow_processes import Airflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

DAG_IDS = ("on_job_end", "on_answers", "answers")
KILLS = 2


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    directory = tmp_path_factory.mktemp("events")
    dags = Path(__file__).parent / "dags"
    with Airflow(directory, pace="reads:2", parallelism=4, dag_ids=DAG_IDS, dags=dags) as running:
        seed(running.addresses)
        yield running


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return found


def rows(airflow: Airflow, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(airflow.directory / "airflow" / "airflow.db", timeout=10)) as database:
        return list(database.execute(sql))


def cursor(airflow: Airflow) -> dict[str, Any]:
    found = rows(airflow, "SELECT value FROM asset_state_store")
    return json.loads(found[0][0]) if found else {}


def is_stored(airflow: Airflow, *jobs: str) -> bool:
    """Whether the cursor says that the events of jobs are in the database."""
    return {name.rpartition("/")[2] for name in jobs} <= cursor(airflow)["ended"].keys()


def create(airflow: Airflow, team: str = "search") -> str:
    """Somebody creates a job without input, which fails in a moment; return its name."""
    parent = f"projects/{airflow.addresses.project}/locations/global"
    body = {
        "displayName": "of somebody",
        "model": "publishers/google/models/gemini-3.5-flash",
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://my-bucket/absent.jsonl"]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://my-bucket/out"},
        },
        "labels": {"team": team, "emulator-pace": "milliseconds-500"},
    }
    url = f"{airflow.addresses.vertex_url}/v1/{parent}/batchPredictionJobs"
    return str(call(url, body)["name"])


def events(airflow: Airflow) -> Counter[str]:
    """In how many events each job is."""
    found = [json.loads(extra) for (extra,) in rows(airflow, "SELECT extra FROM asset_event")]
    payloads = [each["payload"] for each in found if each.get("from_trigger")]
    return Counter(job["job_name"] for payload in payloads for job in payload["jobs"])


def runs(airflow: Airflow, dag_id: str) -> list[Any]:
    """What the only task of a DAG has returned, in each run."""
    found = airflow.call(f"dags/{dag_id}/dagRuns")["dag_runs"]
    task = {"on_job_end": "names", "on_answers": "landed"}[dag_id]
    return [
        airflow.call(
            f"dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances/{task}/xcomEntries/return_value"
        )["value"]
        for run in found
        if run["state"] == "success"
    ]


def told(airflow: Airflow) -> set[str]:
    """The jobs that runs of the DAG were told of."""
    return {name for names in runs(airflow, "on_job_end") for name in names}


def test_a_dag_starts_when_a_job_ends_and_no_restart_loses_one(airflow: Airflow) -> None:
    until(lambda: cursor(airflow))
    before = create(airflow)
    other = create(airflow, team="ads")
    until(lambda: before in told(airflow))
    until(lambda: is_stored(airflow, before))
    jobs = []
    for _ in range(KILLS):
        # It dies at any moment: before it has seen the job, or after it has told of it.
        jobs.append(create(airflow))
        airflow.kill_triggerer()
        until(lambda: is_stored(airflow, *jobs))
        until(lambda: set(jobs) <= told(airflow))
    found = events(airflow)
    print({name.rpartition("/")[2]: count for name, count in found.items()})
    assert found[before] == 1
    assert other not in found
    # Only events of the last look before a kill may be repeated.
    assert all(count <= 2 for count in found.values())


def test_a_dag_starts_when_results_are_landed(airflow: Airflow) -> None:
    run = airflow.call("dags/answers/dagRuns", {"logical_date": None})["dag_run_id"]
    ((extra,),) = until(lambda: runs(airflow, "on_answers"), 240)
    print(extra)
    assert (extra["rows"], extra["rows_succeeded"], extra["jobs"]) == (20, 20, 1)
    assert extra["table"] == "local-project.my_dataset.answers_of_events"
    source = rows(airflow, "SELECT source_dag_id, source_task_id, source_run_id FROM asset_event")
    assert ("answers", "land", run) in source
    # The trigger has seen that job too.
    until(lambda: extra["job_name"] in events(airflow))
