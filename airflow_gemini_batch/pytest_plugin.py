"""Fixtures for testing DAGs that run Gemini batch jobs; pytest loads them when the package is installed.

pytest imports this module in every session, so it imports nothing slow at module level.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from airflow_gemini_batch.emulator.server import Emulator
    from airflow_gemini_batch.local_stack.stack import StackAddresses
    from airflow_gemini_batch.testing.stack import GeminiBatchStack

_CONFTEST = """
    from airflow_gemini_batch.testing import separate_airflow

    separate_airflow()
"""
_WITHOUT_STACK = re.compile(
    r"no such table|conn_id `\w+` isn't defined|DefaultCredentialsError|credentials were not found"
)


@pytest.fixture
def gemini_batch_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Run the emulator of the Vertex AI batch API during a test, and point Google's SDK at it."""
    from airflow_gemini_batch.emulator.server import Emulator

    with Emulator() as emulator:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", emulator.url)
        yield emulator


@pytest.fixture
def gemini_batch_connection(gemini_batch_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Define the connection ``google_cloud_default`` with credentials for the emulator; return its id.

    The project is ``GOOGLE_CLOUD_PROJECT``, or ``local-project``.
    """
    import os

    from airflow_gemini_batch.emulator.credentials import connection_json

    project = os.environ.get("GOOGLE_CLOUD_PROJECT", "local-project")
    connection = connection_json(gemini_batch_emulator.url, project)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    return "google_cloud_default"


@pytest.fixture(scope="session")
def _gemini_batch_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackAddresses]:
    """Cloud Storage, BigQuery and Airflow's database, for all tests of a process."""
    from airflow_gemini_batch.local_stack.stack import LocalStack
    from airflow_gemini_batch.testing.separate_airflow import create_database, home

    if home() is None:
        pytest.fail(f"gemini_batch_stack needs these lines in conftest.py:\n{_CONFTEST}", pytrace=False)
    create_database()
    with LocalStack(tmp_path_factory.mktemp("stack"), vertex_url="", bigquery_threads=1) as addresses:
        yield addresses


@pytest.fixture
def gemini_batch_stack(
    _gemini_batch_servers: StackAddresses, gemini_batch_emulator: Emulator
) -> Iterator[GeminiBatchStack]:
    """Run emulators of Cloud Storage, BigQuery and Vertex AI, and point Google's SDKs and Airflow at them.

    Airflow has a database of its own, and the connection ``google_cloud_default``. All is empty again after
    the test.
    """
    import os

    from airflow_gemini_batch.testing.stack import GeminiBatchStack

    addresses = replace(_gemini_batch_servers, vertex_url=gemini_batch_emulator.url)
    before = dict(os.environ)
    os.environ.update(addresses.environment())
    stack = GeminiBatchStack(addresses, gemini_batch_emulator)
    try:
        yield stack
    finally:
        try:
            stack.clear()
        finally:
            os.environ.clear()
            os.environ.update(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Fail a test that would have reached Google, also if Airflow has caught the error."""
    guard = sys.modules.get("airflow_gemini_batch.testing.google_hosts")
    if guard:
        guard.attempts()
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
    if guard and (hosts := guard.attempts()):
        cause = None if isinstance(error, guard.GoogleReachedError) else error
        raise pytest.fail.Exception(guard.message(hosts[0]), pytrace=False) from cause
    if error is not None:
        raise error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the fixture when a test fails because it does not use it."""
    report = yield
    error = call.excinfo
    is_separate = "airflow_gemini_batch.testing.separate_airflow" in sys.modules
    if error and is_separate and _WITHOUT_STACK.search(f"{error.typename}: {error.value}"):
        hint = "Use the fixture gemini_batch_stack: it has a database, the connection and the emulators."
        if "gemini_batch_stack" in getattr(item, "fixturenames", ()):
            hint = "Define the connection with gemini_batch_stack.define_connection(conn_id)."
        report.sections.append(("airflow-provider-gemini-batch", hint))
    return report
