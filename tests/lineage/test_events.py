"""The events of a pipeline that runs in Airflow, as OpenLineage's file transport writes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from tests.docs.pages import blocks
from tests.lineage.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud import bigquery, storage

    from tests.conftest import RunningStack

Event = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """The events of the tasks, in the order in which they were sent, and where the data is."""

    events: list[Event]
    bucket: str
    dataset: str


@pytest.fixture(scope="module")
def sent(
    stack: RunningStack,
    airflow_db: Path,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sent]:
    """Run the pipeline once: it takes most of a minute."""
    from google.cloud import bigquery as bq

    bucket = f"lineage-{uuid.uuid4().hex[:12]}"
    storage_client.create_bucket(bucket)
    made = bq.Dataset(f"{bigquery_client.project}.lineage_{uuid.uuid4().hex[:12]}")
    made.location = "us-central1"
    bigquery_client.create_dataset(made)
    regional = f"{made.project}.{made.dataset_id}"
    rows = "SELECT id, 'It broke' AS text FROM UNNEST(['a', 'b', 'c']) AS id"
    bigquery_client.query_and_wait(f"CREATE TABLE `{regional}.tickets` AS {rows}")
    file = tmp_path_factory.mktemp("lineage") / "lineage.json"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    environment = {
        **os.environ,
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        "LINEAGE_DATASET": regional,
        "LINEAGE_BUCKET": bucket,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", "tests.lineage.run_pipeline"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in file.read_text().splitlines()]
    yield Sent([each for each in events if "." in each["job"]["name"]], bucket, regional)
    bigquery_client.delete_dataset(made, delete_contents=True)


def names(datasets: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(each["namespace"], each["name"]) for each in datasets}


def test_the_events_of_a_pipeline(sent: Sent) -> None:
    events, bucket, regional = sent.events, sent.bucket, sent.dataset
    ends = {each["job"]["name"]: each for each in events if each["eventType"] == "COMPLETE"}
    assert list(ends) == [f"lineage_pipeline.{name}" for name in ("requests", "submit", "land")]
    requests, submit, land = ends.values()
    table, out = ("bigquery", f"{regional}.requests"), (f"gs://{bucket}", "out")
    # What one task writes is what the next one reads, by its name.
    assert names(requests["inputs"]) == {("bigquery", f"{regional}.tickets")}
    assert names(requests["outputs"]) == names(submit["inputs"]) == {table}
    assert names(submit["outputs"]) == {out}
    assert names(land["inputs"]) == {table, out}
    assert names(land["outputs"]) == {
        ("bigquery", f"{regional}.{name}") for name in ("answers", "answers_errors")
    }
    job = submit["run"]["facets"]["externalQuery"]["externalQueryId"]
    for each in (submit, land):
        facet = each["run"]["facets"]["gemini_batch"]
        assert [found["name"] for found in facet["jobs"]] == [job]
        assert facet["jobs"][0]["state"] == "JOB_STATE_SUCCEEDED"
        Draft202012Validator(SCHEMA).validate(facet)
    assert land["run"]["facets"]["gemini_batch"]["rows"]["succeeded"] == 3
    assert land["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 3
    # The task that waits has begun twice: it was deferred.
    begun = [each["job"]["name"] for each in events if each["eventType"] == "START"]
    assert set(begun) == set(ends)
    for word in ("Summarise", "It broke"):
        assert word not in json.dumps([{**each, "run": our_facets(each)} for each in events])


def our_facets(event: Event) -> dict[str, Any]:
    """Without the facets of the OpenLineage provider, which describe the task with its parameters."""
    facets = event["run"]["facets"]
    return {name: facets[name] for name in ("gemini_batch", "externalQuery") if name in facets}


def test_the_event_in_the_docs_is_a_part_of_a_real_one(sent: Sent) -> None:
    (block,) = [each for each in blocks("json") if each.page == "lineage.md"]
    shown = json.loads(block.text)
    name = shown["job"]["name"]
    ends = [each for each in sent.events if each["eventType"] == "COMPLETE"]
    (real,) = [each for each in ends if each["job"]["name"] == name]
    assert missing_in(real, shown) == []
    Draft202012Validator(SCHEMA).validate(shown["run"]["facets"]["gemini_batch"])


def missing_in(sent: Any, shown: Any, path: str = "$") -> list[str]:
    """Return the paths of what is shown that the event does not have, or has as another type."""
    if isinstance(shown, dict):
        if not isinstance(sent, dict):
            return [path]
        lost = [f"{path}.{name}" for name in shown if name not in sent]
        common = [name for name in shown if name in sent]
        return lost + [
            each for name in common for each in missing_in(sent[name], shown[name], f"{path}.{name}")
        ]
    if isinstance(shown, list):
        if not isinstance(sent, list) or len(sent) < len(shown):
            return [path]
        pairs = enumerate(zip(sent, shown, strict=False))
        return [each for n, (a, b) in pairs for each in missing_in(a, b, f"{path}[{n}]")]
    return [] if type(sent) is type(shown) else [path]
