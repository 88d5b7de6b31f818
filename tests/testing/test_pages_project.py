"""The page "Test your own DAGs", as a user follows it: its files in an empty folder, and pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.local_stack.service import isolated_environment
from tests.docs.pages import ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

FILES = {block.title: block.text for block in blocks("python") if block.title}
WITHOUT_FIXTURE = """
import asyncio
from pathlib import Path

import pytest

DAGS = Path(__file__).parent / "dags"


def test_a_dag_without_the_fixture():
    from airflow_gemini_batch.testing.separate_airflow import load_dags

    load_dags(DAGS / "user_dag.py")["user_dag"].test()


def test_a_client_of_google():
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    storage.Client("p", AnonymousCredentials()).lookup_bucket("b")


def test_an_error_that_something_catches():
    import urllib.request

    try:
        urllib.request.urlopen("https://bigquery.googleapis.com")
    except BaseException:
        pass


def test_asynchronously():
    import aiohttp

    async def read():
        async with aiohttp.ClientSession(trust_env=True) as session:
            await session.get("https://aiplatform.googleapis.com")

    asyncio.run(read())


def test_through_a_proxy(monkeypatch):
    import httpx

    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    httpx.get("https://us-central1-aiplatform.googleapis.com")


def test_the_metadata_server():
    import requests

    requests.get("http://169.254.169.254/computeMetadata/v1/")


def test_credentials():
    import google.auth

    google.auth.default()


@pytest.mark.usefixtures("gemini_batch_stack")
def test_a_connection_of_its_own():
    from airflow.providers.google.cloud.hooks.gcs import GCSHook

    GCSHook("of_the_dag").list("bucket")
"""


def run(folder: Path, files: dict[str, str], *options: str) -> tuple[int, str]:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    environment = isolated_environment() | {"PYTHONPATH": str(ROOT), "HTTPS_PROXY": "http://127.0.0.1:9"}
    if cache := os.environ.get("XDG_CACHE_HOME"):
        environment["XDG_CACHE_HOME"] = cache
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_pages_project_passes(tmp_path: Path) -> None:
    assert set(FILES) == {"dags/user_dag.py", "conftest.py", "test_user_dag.py"}
    code, output = run(tmp_path, FILES)
    assert code == 0, output
    assert "2 passed" in output


def test_nothing_reaches_google_and_the_fixture_is_named(tmp_path: Path) -> None:
    files = {**FILES, "test_user_dag.py": WITHOUT_FIXTURE}
    code, output = run(tmp_path, files, "--tb=short", "--durations=0", "--durations-min=5")
    assert code == 1
    summary = output[output.index("short test summary") :]
    assert summary.count("FAILED") == WITHOUT_FIXTURE.count("\ndef test_") == 8, output
    for test in output.split("____ test_")[1:]:
        assert "gemini_batch_stack" in test, test


@pytest.mark.parametrize(
    ("conftest", "words"),
    [
        ("", "needs these lines in conftest.py"),
        ("import airflow.configuration\n" + FILES["conftest.py"], "at the top of conftest.py"),
    ],
)
def test_a_wrong_conftest_is_explained(conftest: str, words: str, tmp_path: Path) -> None:
    code, output = run(
        tmp_path,
        {**FILES, "conftest.py": conftest, "test_user_dag.py": "def test_it(gemini_batch_stack): ..."},
    )
    assert code
    assert words in output
