"""What a web page in a browser on this machine, or the SQL of a test, can do with the emulators: nothing."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from google.cloud import bigquery, storage

    from tests.conftest import RunningStack

READS = {
    "storage_url": "/storage/v1/b?project=x",
    "bigquery_url": "/bigquery/v2/projects/local-project/datasets",
    "vertex_url": "/v1/projects/p/locations/us-central1/batchPredictionJobs",
}
FOREIGN = {
    "origin": {"Origin": "http://evil.example"},
    "null origin": {"Origin": "null"},
    "origin on another port": {"Origin": "http://127.0.0.1:1"},
    "image or script": {"Sec-Fetch-Site": "cross-site"},
    "page on another port": {"Sec-Fetch-Site": "same-site"},
    "rebound name": {"Host": "evil.example"},
    "rebound name with a port": {"Host": "evil.example:{port}"},
    "name that begins like ours": {"Host": "127.0.0.1.evil.example:{port}"},
    "our name without the port": {"Host": "127.0.0.1"},
}


def send(
    url: str, headers: dict[str, str] | None = None, data: bytes | None = None, method: str | None = None
) -> tuple[int, dict[str, str]]:
    sent = {"Authorization": "Bearer any", **(headers or {})}
    request = urllib.request.Request(url, data, sent, method=method)  # noqa: S310  # always loopback
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
            return response.status, {name.lower(): value for name, value in response.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}


@pytest.mark.parametrize("server", READS)
def test_only_requests_with_the_secret_and_from_no_page_are_answered(
    stack: RunningStack, server: str
) -> None:
    url = getattr(stack.addresses, server)
    parts = urlsplit(url)
    root = f"http://{parts.netloc}"
    read = READS[server]
    assert send(url + read)[0] == 200
    assert send(url + read, {"Host": f"localhost:{parts.port}"})[0] == 200
    for what, headers in FOREIGN.items():
        status, answered = send(
            url + read, {name: value.format(port=parts.port) for name, value in headers.items()}
        )
        assert status == 403, what
        assert "access-control-allow-origin" not in answered, what
    for without in (root + read, f"{root}/{'x' * 24}{read}", f"{root}{parts.path}x{read}"):
        assert send(without)[0] == 403
    # What a page may send without asking first.
    page = {**FOREIGN["origin"], "Content-Type": "text/plain"}
    assert send(url + read, page, b"{}")[0] == 403
    assert send(url + read, page, method="OPTIONS")[0] >= 400


def test_the_server_behind_the_storage_emulator_refuses_browsers(tmp_path: Path) -> None:
    """It speaks TLS with a certificate that no browser trusts, so a page cannot send it a request."""
    from airflow_gemini_batch.local_stack.service import Service
    from airflow_gemini_batch.local_stack.stack import find_storage_binary

    noted = tmp_path / "arguments"
    binary = tmp_path / "binary"
    binary.write_text(f'#!/bin/sh\necho "$@" > {noted}\nexec {find_storage_binary()} "$@"\n')
    binary.chmod(0o700)
    module = "airflow_gemini_batch.local_stack.storage"
    service = Service("Cloud Storage", [sys.executable, "-m", module, str(binary)], tmp_path / "log")
    service.start()
    try:
        url = service.wait_for("listening on")
        words = noted.read_text().split()
        assert urlsplit(url).path[1:] not in noted.read_text()
        address = ("127.0.0.1", int(words[words.index("-port") + 1]))
        with socket.create_connection(address) as connection, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(connection, server_hostname="127.0.0.1")
        assert send(f"http://127.0.0.1:{address[1]}{READS['storage_url']}")[0] == 400
    finally:
        service.stop()


NAMES = ["../../up.txt", "a/../../up.txt", "/abs.txt", "..\\up.txt", "a\x00b", "%2e%2e/up.txt", ".../up.txt"]


def test_object_names_lead_to_no_file(
    bucket: str, storage_client: storage.Client, airflow_home: Path
) -> None:
    before = {path for path in airflow_home.rglob("*") if "bigquery" not in str(path)}
    for name in NAMES:
        blob = storage_client.bucket(bucket).blob(name)
        blob.upload_from_string(name)
        assert blob.download_as_bytes() == name.encode()
    assert sorted(each.name for each in storage_client.list_blobs(bucket)) == sorted(NAMES)
    after = {path for path in airflow_home.rglob("*") if "bigquery" not in str(path)}
    assert after == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT content FROM read_text('{secret}')",
        "SELECT content FROM read_blob('{data}/../../{name}')",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_json('{secret}')",
        "SELECT * FROM sniff_csv('{secret}')",
        "COPY (SELECT 'x') TO '{folder}/written.txt'",
        "COPY (SELECT 'x') TO '{data}/../../written.txt'",
        "EXPORT DATA OPTIONS(uri='{folder}/written.csv', format='CSV') AS SELECT 'x' AS a",
        "EXPORT DATA OPTIONS(uri='file://{folder}/written.csv', format='CSV') AS SELECT 'x' AS a",
        "CREATE SCHEMA `../../written`.d",
        "LOAD httpfs",
        "PRAGMA enable_external_access=true",
    ],
)
def test_sql_reads_and_writes_no_file(bigquery_client: bigquery.Client, tmp_path: Path, sql: str) -> None:
    from google.api_core.exceptions import GoogleAPICallError

    from tests.conftest import _HOME

    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    data = _HOME / "stack" / "bigquery"
    assert data.is_dir()
    text = sql.format(secret=secret, folder=tmp_path, data=data, name=secret.name)
    with pytest.raises(GoogleAPICallError):
        bigquery_client.query(text, job_retry=None).result()
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]
    assert not list(_HOME.glob("written*"))


@pytest.mark.parametrize("uri", ["file://{secret}", "{secret}", "https://127.0.0.1:1/x", "gs://", "gs://b"])
def test_load_jobs_read_only_objects(
    bigquery_client: bigquery.Client, dataset: str, tmp_path: Path, uri: str
) -> None:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.bigquery import LoadJobConfig, SchemaField

    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    config = LoadJobConfig(source_format="CSV", schema=[SchemaField("line", "STRING")])
    with pytest.raises(GoogleAPICallError, match="Invalid Cloud Storage URI"):
        bigquery_client.load_table_from_uri(
            uri.format(secret=secret), f"{dataset}.t", job_config=config
        ).result()


def test_objects_with_the_signs_of_a_pattern_in_their_names_load(
    bucket: str, dataset: str, storage_client: storage.Client, bigquery_client: bigquery.Client
) -> None:
    from google.cloud.bigquery import LoadJobConfig, SchemaField

    for number, name in enumerate(("in/a[1].jsonl", "in/b/{x}.jsonl", "in/c?#.jsonl", "other.jsonl")):
        storage_client.bucket(bucket).blob(name).upload_from_string(json.dumps({"n": number}))
    config = LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=[SchemaField("n", "INT64")])
    bigquery_client.load_table_from_uri(f"gs://{bucket}/in/*", f"{dataset}.t", job_config=config).result()
    assert sorted(row.n for row in bigquery_client.list_rows(f"{dataset}.t")) == [0, 1, 2]


def test_a_resumable_upload_continues_at_a_url_with_the_secret(bucket: str, stack: RunningStack) -> None:
    url = f"{stack.addresses.storage_url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable"
    status, headers = send(f"{url}&name={quote('a/b', safe='')}", data=b"{}")
    assert status == 200
    assert headers["location"].startswith(stack.addresses.storage_url + "/")


def test_a_stack_that_is_never_stopped_stops_at_the_exit_of_the_interpreter(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import atexit, sys
        from pathlib import Path
        from airflow_gemini_batch.local_stack.stack import LocalStack
        stack = LocalStack(Path(sys.argv[1]), vertex_url="")
        service = stack._launch("Sleeper", ["sleep", "600"], {})
        atexit.register(stack.stop)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
