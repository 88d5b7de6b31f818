"""Fixtures for testing DAGs that run Gemini batch jobs; pytest loads them when the package is installed.

pytest imports this module in every session, so it imports nothing slow at module level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_gemini_batch.emulator.server import Emulator


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
