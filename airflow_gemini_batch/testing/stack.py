"""What the fixture ``gemini_batch_stack`` gives to a test."""

from __future__ import annotations

import os
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.credentials import connection_json
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.local_stack.stack import REGION

if TYPE_CHECKING:
    from pathlib import Path

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from airflow_gemini_batch.local_stack.stack import StackAddresses


class GeminiBatchStack:
    """Emulators of Cloud Storage, BigQuery and Vertex AI, empty at the start of each test.

    :ivar addresses: the URLs of the emulators
    :ivar emulator: of Vertex AI: its jobs, the requests that it got, its pace and faults
    """

    def __init__(self, addresses: StackAddresses, emulator: Emulator) -> None:
        self.addresses = addresses
        self.emulator = emulator

    @property
    def project(self) -> str:
        """The project ID of the emulators and of the connection ``google_cloud_default``."""
        return self.addresses.project

    @cached_property
    def storage(self) -> storage.Client:
        """Google's client for Cloud Storage, of the emulator."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        return storage.Client(self.project, AnonymousCredentials())  # type: ignore[no-untyped-call]

    @cached_property
    def bigquery(self) -> bigquery.Client:
        """Google's client for BigQuery, of the emulator."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        return bigquery.Client(self.project, AnonymousCredentials())  # type: ignore[no-untyped-call]

    def create_bucket(self, name: str) -> None:
        """Create a bucket, unless it is there."""
        if self.storage.lookup_bucket(name) is None:
            self.storage.create_bucket(name)

    def create_dataset(self, name: str, location: str = REGION) -> None:
        """Create a dataset.

        :param name: ``dataset``, or ``project.dataset``
        """
        from google.cloud import bigquery

        dataset = bigquery.Dataset(name if "." in name else f"{self.project}.{name}")
        dataset.location = location
        self.bigquery.create_dataset(dataset)

    def put(self, uri: str, content: str | bytes) -> None:
        """Write an object, and create its bucket if necessary.

        :param uri: ``gs://bucket/name``
        :raises InvalidParameterError: it is something else
        """
        found = re.fullmatch(r"gs://([^/]+)/(.+)", uri)
        if not found:
            raise InvalidParameterError("uri", uri, "give gs://bucket/name")
        bucket, name = found.groups()
        self.create_bucket(bucket)
        self.storage.bucket(bucket).blob(name).upload_from_string(content)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Run SQL in BigQuery and return the rows."""
        return [dict(row.items()) for row in self.bigquery.query(sql).result()]

    def define_connection(self, conn_id: str = "google_cloud_default") -> None:
        """Define an Airflow connection to the emulators, for the rest of the test."""
        value = connection_json(self.addresses.vertex_url, self.project)
        os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = value

    def dags(self, path: Path | str) -> dict[str, Any]:
        """Load a DAG file, or all of a folder, as Airflow does.

        :return: the DAGs by ID; ``dag.test()`` runs one
        :raises AssertionError: a file has errors; the message has them all
        """
        from airflow_gemini_batch.testing.separate_airflow import load_dags

        return load_dags(path)

    def clear(self) -> None:
        """Delete all buckets, datasets and jobs, and close the clients."""
        self.emulator.clear()
        for dataset in self.bigquery.list_datasets():
            self.bigquery.delete_dataset(dataset.reference, delete_contents=True, not_found_ok=True)
        for bucket in self.storage.list_buckets():
            bucket.delete_blobs(list(bucket.list_blobs()))
            bucket.delete()
        for client in (self.storage, self.bigquery):
            client.close()
