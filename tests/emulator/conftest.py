"""An emulator for each test, and clients for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.server import Emulator

from .wire import PROJECT, Http, job_body, violations_of_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A running emulator at the immediate pace; jobs choose another with the label ``emulator-pace``."""
    with Emulator() as running:
        yield running
        requests = running.requests
    assert violations_of_answers(requests) == []


@pytest.fixture
def http(emulator: Emulator) -> Http:
    return Http(emulator.url)


@pytest.fixture
def create(http: Http) -> Callable[..., dict[str, Any]]:
    """Return a function that creates a job, which by default stays PENDING, and returns its resource."""

    def make(pace: str = "reads-1000", **fields: Any) -> dict[str, Any]:
        labels = {"emulator-pace": pace, **fields.pop("labels", {})}
        status, job = http("POST", "", {**job_body(), "labels": labels, **fields})
        assert status == 200, job
        return job

    return make


@pytest.fixture
def sdk(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real google-genai client, with real credentials for the emulator's tokens."""
    from google import genai
    from google.oauth2 import service_account

    from airflow_gemini_batch.emulator.credentials import service_account_info
    from airflow_gemini_batch.local_stack.stack import stay_on_loopback

    stay_on_loopback()
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", emulator.url)
    info = service_account_info(f"{emulator.url}/token", PROJECT)
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = service_account.Credentials.from_service_account_info(info, scopes=scopes)
    return genai.Client(vertexai=True, project=PROJECT, location="global", credentials=credentials)
