from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.jobs.identity import RunIdentity
from airflow_gemini_batch.results.landing import LandingRequest, WriteMode, land

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.requests.response_schema import ResponseSchema
    from airflow_gemini_batch.results.summary import Manifest

MODEL = "publishers/google/models/gemini-2.5-flash"


@dataclass
class Lander:
    """Stores input and output of a job, and lands it."""

    bucket: str
    dataset: str
    bigquery: bigquery.Client
    storage: storage.Client
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def destination(self) -> TableName:
        return TableName.parse(f"{self.dataset}.results")

    @property
    def error_table(self) -> TableName:
        return self.destination.sibling("results_errors")

    @property
    def directory(self) -> str:
        return f"{self.job_id}/prediction-model-2026-11-01T00:00:00.123456Z"

    def job(self, **changes: Any) -> BatchJob:
        job = BatchJob(
            name=JobName("local-project", "us-central1", self.job_id),
            state=JobState.SUCCEEDED,
            model=MODEL,
            input_uris=(f"gs://{self.bucket}/{self.job_id}/input.jsonl",),
            output_uri=f"gs://{self.bucket}/{self.job_id}",
            output_location=f"gs://{self.bucket}/{self.directory}",
        )
        return replace(job, **changes)

    def put(self, name: str, lines: Sequence[str], end: str = "\n") -> None:
        text = "\n".join(lines) + (end if lines else "")
        self.storage.bucket(self.bucket).blob(f"{self.job_id}/{name}").upload_from_string(text.encode())

    def put_input(self, *lines: str) -> None:
        self.put("input.jsonl", lines)

    def put_output(self, *lines: str, name: str = "predictions.jsonl", end: str = "\n") -> None:
        self.put(f"{self.directory.partition('/')[2]}/{name}", lines, end)

    def put_table(self, name: str, columns: dict[str, str], rows: list[dict[str, Any]]) -> str:
        """Create a table and return its URI."""
        from google.cloud.bigquery import SchemaField, Table

        table = Table(f"{self.dataset}.{name}", [SchemaField(n, kind) for n, kind in columns.items()])
        self.bigquery.create_table(table)
        if rows:
            self.bigquery.load_table_from_json(rows, table).result()
        return f"bq://{table.project}.{table.dataset_id}.{table.table_id}"

    def land(
        self,
        schema: ResponseSchema | None = None,
        write_mode: WriteMode = WriteMode.APPEND,
        job: BatchJob | None = None,
        **more: Any,
    ) -> Manifest:
        given = {"destination": self.destination, **more}
        request = LandingRequest(
            jobs=(job or self.job(),),
            error_table=self.error_table,
            run=RunIdentity("dag", "land", "run-1"),
            response_schema=schema,
            write_mode=write_mode,
            **given,
        )
        (landed,) = land(request, bigquery=self.bigquery, storage=self.storage)
        return landed

    def query(self, sql: str) -> list[dict[str, Any]]:
        return [dict(row.items()) for row in self.bigquery.query(sql).result()]

    def rows(self) -> dict[str | None, dict[str, Any]]:
        """Result rows by key."""
        found = self.query(f"SELECT * FROM {self.destination.quoted}")
        rows = {row["key"]: row for row in found}
        assert len(rows) == len(found), "a key has two rows"
        return rows

    def errors(self) -> dict[str | None, dict[str, Any]]:
        """Error rows by key."""
        return {row["key"]: row for row in self.query(f"SELECT * FROM {self.error_table.quoted}")}

    def statuses(self) -> dict[str | None, str]:
        return {key: row["status"] for key, row in self.rows().items()}

    def tables(self) -> set[str]:
        return {table.table_id for table in self.bigquery.list_tables(self.dataset)}


@pytest.fixture
def lander(
    bucket: str, dataset: str, bigquery_client: bigquery.Client, storage_client: storage.Client
) -> Lander:
    return Lander(bucket, dataset, bigquery_client, storage_client)
