"""Lands mutated output: every output line and every input row is accounted for."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.jobs.identity import RunIdentity
from airflow_gemini_batch.results.landing import LandingRequest, land

from .lines import MUTATIONS, input_line, output_line
from .plans import seeds

if TYPE_CHECKING:
    from google.cloud import bigquery, storage


def landed(
    given: list[bytes],
    output: list[bytes],
    bucket: str,
    dataset: str,
    bigquery_client: bigquery.Client,
    storage_client: storage.Client,
) -> tuple[dict[str, Any], list[Any]]:
    """Land lines; return the manifest, even if its counts do not add up, and the rows of the table."""
    job_id = uuid.uuid4().hex[:12]
    directory = f"{job_id}/prediction-model-2026-11-01T00:00:00.000000Z"
    objects = {f"{job_id}/in.jsonl": given, f"{directory}/predictions.jsonl": output}
    for name, content in objects.items():
        storage_client.bucket(bucket).blob(name).upload_from_string(b"\n".join(content) + b"\n")
    destination = TableName.parse(f"{dataset}.results_{job_id}")
    job = BatchJob(
        name=JobName("local-project", "global", job_id),
        state=JobState.SUCCEEDED,
        model="publishers/google/models/gemini-3.5-flash",
        input_uris=(f"gs://{bucket}/{job_id}/in.jsonl",),
        output_uri=f"gs://{bucket}/{job_id}",
        output_location=f"gs://{bucket}/{directory}",
    )
    errors = destination.sibling(f"{destination.table}_errors")
    request = LandingRequest((job,), destination, errors, RunIdentity("dag", "land", "run"))
    (landed,) = land(request, bigquery=bigquery_client, storage=storage_client)
    manifest = landed.to_dict()
    rows = bigquery_client.query_and_wait(f"SELECT key, status FROM {destination.quoted}")
    return manifest, list(rows)


def check(manifest: dict[str, Any], rows: list[Any], given: list[bytes], output: list[bytes]) -> None:
    counts = manifest["counts"]
    lines = sum(bool(line.strip(b"\r")) for line in output)
    assert manifest["input_rows"] == len(given)
    # Every input row has one status; rows without an input row are counted as unmatched.
    assert sum(counts.values()) == len(given) + manifest["unmatched"]
    # Every output line was landed, or is a duplicate that was not.
    assert manifest["output_rows"] == lines
    assert sum(counts.values()) - counts["missing"] + manifest["duplicates"] == lines
    # The table matches the manifest.
    assert Counter(row["status"] for row in rows) == {name: count for name, count in counts.items() if count}
    # A line with neither a key nor a request to find it by is landed without a key.
    expected = {f"k{number:06}" for number in range(len(given))}
    keys = Counter(row["key"] for row in rows)
    assert [key for key in expected if keys[key] > 1] == []
    unknown = sum(count for key, count in keys.items() if key not in expected) - manifest["unmatched"]
    assert len(expected - set(keys)) == unknown <= manifest["joined_by"].get("count", 0)


@pytest.mark.parametrize(("seed", "count"), seeds("RELIABILITY_LINES", default=1000, each=2500))
def test_every_line_is_accounted_for(
    bucket: str,
    dataset: str,
    bigquery_client: bigquery.Client,
    storage_client: storage.Client,
    seed: int,
    count: int,
) -> None:
    rng = random.Random(seed)
    given = [input_line(number) for number in range(count)]
    output: list[bytes] = []
    for number in range(count):
        mutate = MUTATIONS[rng.choice(list(MUTATIONS))]
        output += [line for line in mutate(output_line(number), rng) if b"\n" not in line]
    rng.shuffle(output)
    manifest, rows = landed(given, output, bucket, dataset, bigquery_client, storage_client)
    check(manifest, rows, given, output)


def test_no_mutation_affects_another_row(
    bucket: str, dataset: str, bigquery_client: bigquery.Client, storage_client: storage.Client
) -> None:
    """Apply each mutation once, with an unchanged line after each."""
    rng = random.Random(0)
    output: list[bytes] = []
    for number, mutate in enumerate(MUTATIONS.values()):
        mutated, unchanged = 2 * number, 2 * number + 1
        output += [*mutate(output_line(mutated), rng), output_line(unchanged)]
    given = [input_line(number) for number in range(2 * len(MUTATIONS))]
    manifest, rows = landed(given, output, bucket, dataset, bigquery_client, storage_client)
    check(manifest, rows, given, output)
    statuses = {row["key"]: row["status"] for row in rows}
    assert {statuses[f"k{number:06}"] for number in range(1, len(given), 2)} == {"succeeded"}
