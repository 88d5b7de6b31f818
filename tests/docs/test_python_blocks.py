"""Every Python block of the README and the docs, run from a file of its own: a DAG on the local stack."""

from __future__ import annotations

import json
import os
import runpy
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.testing.separate_airflow import load_dags
from tests.docs.pages import Block, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.cloud import bigquery, storage

    from tests.conftest import RunningStack

PROJECT = "my-project"
# Blocks with a title are the files of a project that tests/testing runs as a whole.
# Those with `airflow.sdk` are about what only Airflow 3 has.
HAS_SDK = find_spec("airflow.sdk") is not None
BLOCKS = [
    block
    for block in blocks("python")
    if not block.title and (HAS_SDK or "airflow.sdk import" not in block.text)
]
# Those of other pages are run on rows that they fit.
QUERIES = [block for block in blocks("sql") if block.page not in {"results.md", "embeddings.md"}]
TABLES = """
CREATE TABLE my_dataset.articles AS
SELECT 1 AS id, 'Rivers' AS title, 'The Danube flows through ten countries.' AS text;
CREATE TABLE my_dataset.tickets AS SELECT 1 AS id, 'My order is late.' AS text, DATE '2026-11-01' AS day;
"""
# These DAGs meet a service for which there is no emulator, so they are only parsed.
ONLY_PARSED = {
    "before_provider": "the Gemini Developer API",
    "before_sdk": "the application default credentials",
    "impersonation": "the IAM credentials API",
}
SCHEMA = {
    "type": "OBJECT",
    "properties": {
        "category": {"type": "STRING", "enum": ["praise", "complaint"]},
        "stars": {"type": "INTEGER"},
        "topics": {"type": "ARRAY", "items": {"type": "STRING"}},
    },
    "required": ["category", "stars", "topics"],
}
pytestmark = [pytest.mark.xdist_group("docs"), pytest.mark.filterwarnings("default")]


def lines(start: int, config: dict[str, Any]) -> str:
    prompts = [
        {"contents": [{"role": "user", "parts": [{"text": f"Prompt {n}"}]}]} for n in range(start, start + 3)
    ]
    return "".join(
        json.dumps({"key": f"k{n}", "request": {**prompt, "generationConfig": config}}) + "\n"
        for n, prompt in enumerate(prompts, start)
    )


@pytest.fixture(scope="module")
def google_cloud(
    stack: RunningStack, airflow_db: Path, storage_client: storage.Client
) -> Iterator[bigquery.Client]:
    """The project, bucket and dataset of the pages, with the data that they speak of."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    from airflow_gemini_batch.emulator.credentials import connection_json

    variables = {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection_json(stack.addresses.vertex_url, PROJECT),
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    bucket = storage_client.bucket("my-bucket")
    if not bucket.exists():
        bucket.create()
    config = {"maxOutputTokens": 1000}
    typed = {"responseMimeType": "application/json", "responseSchema": SCHEMA}
    for name, text in {
        "requests.jsonl": lines(0, config),
        "a.jsonl": lines(10, config),
        "b.jsonl": lines(30, config),
        "more/b.jsonl": lines(20, config),
        "reviews.jsonl": lines(0, typed),
    }.items():
        bucket.blob(name).upload_from_string(text)
    client = bigquery.Client(PROJECT, AnonymousCredentials())
    dataset = bigquery.Dataset(f"{PROJECT}.my_dataset")
    dataset.location = "us-central1"
    client.create_dataset(dataset)
    client.query(TABLES).result()
    from airflow.models.pool import Pool

    Pool.create_or_update_pool("gemini_jobs", 50, "", include_deferred=True)
    stack.vertex.clear()
    yield client
    client.delete_dataset(dataset, delete_contents=True)
    client.close()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_python_block(
    block: Block, google_cloud: bigquery.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"block_{block.name.replace('.', '_').replace('-', '_')}"
    file = tmp_path / f"{module}.py"
    file.write_text(block.text)
    (tmp_path / "rows.jsonl").write_text(lines(0, {"maxOutputTokens": 1000}))
    monkeypatch.chdir(tmp_path)
    if "DAG(" not in block.text and "@dag" not in block.text:
        runpy.run_path(str(file))
        return
    try:
        for dag_id, dag in load_dags(file).items():
            if dag_id in ONLY_PARSED:
                continue
            assert dag.test().state == "success"
    finally:
        for name in [name for name in sys.modules if name.endswith(module)]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def answers(google_cloud: bigquery.Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The tables that the queries read: of the README's DAG, and of the page about existing tables."""
    existing = next(block for block in BLOCKS if block.page == "existing-table.md")
    for name, block in (("readme", BLOCKS[0]), ("existing_table", existing)):
        file = tmp_path_factory.mktemp(name) / f"block_of_{name}.py"
        file.write_text(block.text)
        (dag,) = load_dags(file).values()
        assert dag.test().state == "success"


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize("block", QUERIES, ids=lambda block: block.name)
def test_sql_block(block: Block, google_cloud: bigquery.Client) -> None:
    google_cloud.query(block.text).result()


def test_there_are_blocks() -> None:
    print(f"{len(BLOCKS)} Python blocks, {len(QUERIES)} SQL blocks")
    assert len(BLOCKS) >= 20
    assert QUERIES
