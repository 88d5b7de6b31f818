"""Every test gets an Airflow of its own and, on request, the local stack.

Nothing of the machine leaks in: neither the developer's Airflow, nor credentials, nor variables.
Fixtures are lazy: a test of a pure function starts no server and imports no Airflow.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.local_stack.stack import stay_on_loopback
from airflow_gemini_batch.testing.separate_airflow import create_database, separate_airflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator
    from airflow_gemini_batch.local_stack.stack import StackAddresses
    from tests.results.google_sql import GoogleSql


# Airflow reads its environment when it is imported, which a test module may do at its top.
_HOME = separate_airflow(Path(__file__).parents[1] / "example_dags")


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """``AIRFLOW_HOME`` of this process."""
    return _HOME


@pytest.fixture(scope="session")
def airflow_db(airflow_home: Path) -> Path:
    """An initialised metadata database, which ``dag.test()`` needs. Takes some seconds, once."""
    create_database()
    return airflow_home / "airflow.db"


@dataclass(frozen=True)
class RunningStack:
    """The local stack: two processes, and the Vertex emulator in this one."""

    addresses: StackAddresses
    vertex: Emulator

    @property
    def project(self) -> str:
        return self.addresses.project


@pytest.fixture(scope="session")
def servers() -> Iterator[StackAddresses]:
    """Run Cloud Storage and BigQuery, with ``os.environ`` pointing at them; no Vertex yet."""
    from airflow_gemini_batch.local_stack.stack import LocalStack

    # Few rows are not worth more threads, and each worker of pytest has a stack.
    with LocalStack(_HOME / "stack", vertex_url="", bigquery_threads=1) as addresses:
        os.environ["STORAGE_EMULATOR_HOST"] = addresses.storage_url
        os.environ["BIGQUERY_EMULATOR_HOST"] = addresses.bigquery_url
        yield addresses


@pytest.fixture(scope="session")
def stack(servers: StackAddresses) -> Iterator[RunningStack]:
    """Run the whole stack, with ``os.environ`` and ``google_cloud_default`` pointing at it."""
    from cryptography.hazmat.primitives import serialization

    from airflow_gemini_batch.emulator.server import Emulator

    stay_on_loopback()
    with Emulator() as vertex, pytest.MonkeyPatch.context() as patch:
        # In Airflow each task is a process that parses its key once; here all tasks share one process.
        patch.setattr(serialization, "load_pem_private_key", cache(serialization.load_pem_private_key))
        addresses = replace(servers, vertex_url=vertex.url)
        os.environ.update(addresses.environment())
        yield RunningStack(addresses, vertex)


@pytest.fixture
def vertex(stack: RunningStack) -> Iterator[Emulator]:
    """The Vertex emulator, with no jobs and no recorded requests.

    A job that a test has not waited for ends with the test: its thread works in this process, where the next
    test may count calls.
    """
    stack.vertex.clear()
    yield stack.vertex
    stack.vertex.clear()


@pytest.fixture(scope="session")
def storage_client(servers: StackAddresses) -> Iterator[storage.Client]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(servers.project, AnonymousCredentials())
    yield client
    client.close()


@pytest.fixture(scope="session")
def bigquery_client(servers: StackAddresses) -> Iterator[bigquery.Client]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    client = bigquery.Client(servers.project, AnonymousCredentials())
    yield client
    client.close()


@pytest.fixture(scope="session")
def analyzer() -> GoogleSql:
    """The GoogleSQL analyzer, which tests with the mark ``analyzer`` share."""
    pytest.importorskip("zetasql", reason="the analyzer is installed with the dev group")
    from tests.results.google_sql import GoogleSql

    return GoogleSql()


@pytest.fixture
def bucket(storage_client: storage.Client) -> str:
    """The name of a new, empty bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    storage_client.create_bucket(name)
    return name


@pytest.fixture
def dataset(bigquery_client: bigquery.Client) -> Iterator[str]:
    """The id, ``project.dataset``, of a new, empty dataset; the more tables, the slower is the emulator."""
    name = f"{bigquery_client.project}.test_{uuid.uuid4().hex[:12]}"
    bigquery_client.create_dataset(name)
    yield name
    bigquery_client.delete_dataset(name, delete_contents=True)


@pytest.fixture
def regional(bigquery_client: bigquery.Client, dataset: str) -> Iterator[str]:
    """A dataset in the job's region."""
    from google.cloud import bigquery as bq

    made = bq.Dataset(f"{dataset}_regional")
    made.location = "us-central1"
    bigquery_client.create_dataset(made)
    yield f"{dataset}_regional"
    bigquery_client.delete_dataset(made, delete_contents=True)
