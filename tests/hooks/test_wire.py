"""Responses that no API describes, and credentials that cannot be had, over the wire."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import (
    CredentialsUnavailableError,
    GeminiBatchError,
    InvalidParameterError,
    PermissionDeniedError,
    ServiceUnreachableError,
    UnreadableResponseError,
)
from airflow_gemini_batch.hooks import gemini_batch as hooks
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchAsyncHook, GeminiBatchHook
from airflow_gemini_batch.jobs.spec import JobSpec
from tests.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = JobName("p", "us-central1", "42")
JOB = {"name": str(NAME), "state": "JOB_STATE_RUNNING"}
DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


class Server:
    """Serves tokens and jobs, as it is told."""

    def __init__(self) -> None:
        self.token: tuple[int, bytes] = (
            200,
            b'{"access_token": "t", "expires_in": 3599, "token_type": "Bearer"}',
        )
        self.job: bytes = json.dumps(JOB).encode()
        self.released = threading.Event()
        self.stalls: tuple[str, ...] = ()
        self.calls: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.calls.append(self.path)
                if self.path in server.stalls:
                    server.released.wait(30)
                status, body = server.token if self.path.startswith("/token") else (200, server.job)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def connection(self, path: str = "/token") -> str:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        info = {
            "type": "service_account",
            "client_email": "a@p.iam.gserviceaccount.com",
            "private_key": key.decode(),
            "private_key_id": "1",
            "token_uri": f"{self.url}{path}",
            "project_id": "p",
        }
        extra = {"keyfile_dict": json.dumps(info)}
        return json.dumps({"conn_type": "google_cloud_platform", "extra": extra})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", server.url)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", server.connection())
    monkeypatch.setattr(hooks, "_READ_WAIT", 0.01)
    hooks._clients.clear()
    yield server
    server.stop()
    hooks._clients.clear()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"hello",
        b"[]",
        b"null",
        b"7",
        b"\xef\xbb\xbf{}",
        DEEP,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"name": "1"}',
    ],
    ids=["html", "text", "list", "null", "number", "bom", "deep", "long number", "no job"],
)
def test_a_response_that_no_api_describes_is_an_error_of_the_package(server: Server, body: bytes) -> None:
    server.job = body
    with pytest.raises(GeminiBatchError) as caught:
        GeminiBatchHook().get_job(NAME)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", DEEP, b'{"batchPredictionJobs": {"a": 1}}', b'{"batchPredictionJobs": [{}]}']
)
def test_an_odd_list_is_not_an_empty_one(server: Server, body: bytes) -> None:
    server.job = body
    with pytest.raises(UnreadableResponseError):
        GeminiBatchHook().list_jobs("p", "us-central1", "")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", DEEP, b"{}", b'{"name": "1"}'])
def test_an_odd_response_to_a_create_may_hide_a_job(server: Server, body: bytes) -> None:
    server.job = body
    spec = JobSpec("p", "us-central1", "publishers/google/models/m", ("gs://b/o",), "gs://b/out", "name")
    with pytest.raises(ServiceUnreachableError) as caught:
        GeminiBatchHook().create_job(spec)
    assert not caught.value.never_sent
    assert len(server.calls) == 2  # a token, and one create


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (502, b"<html>"), (503, b"{}"), (504, b"<html>"), (429, b"{}")],
)
def test_a_token_endpoint_that_fails_is_no_refusal(server: Server, status: int, body: bytes) -> None:
    server.token = (status, body)
    with pytest.raises(GeminiBatchError) as caught:
        GeminiBatchHook().get_job(NAME, retry=False)
    assert caught.value.is_transient
    server.token = Server().token
    assert GeminiBatchHook().get_job(NAME, retry=False).name == NAME


def test_a_refused_key_is_a_lasting_error(server: Server) -> None:
    server.token = (400, b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}')
    with pytest.raises(PermissionDeniedError, match="invalid_grant"):
        GeminiBatchHook().get_job(NAME, retry=False)


def test_a_new_key_in_the_connection_is_used_by_a_hook_that_waits(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = GeminiBatchHook()
    assert hook.get_job(NAME).name == NAME
    hooks._clients.clear()  # As after a refusal.
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", server.connection("/token/new"))
    assert hook.get_job(NAME).name == NAME
    assert "/token/new" in server.calls


def test_a_stalled_token_endpoint_does_not_stop_other_connections(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stalls = ("/token/stalled",)
    monkeypatch.setenv("AIRFLOW_CONN_STALLED", server.connection("/token/stalled"))

    async def both() -> float:
        stalled = [
            asyncio.create_task(GeminiBatchAsyncHook(gcp_conn_id="stalled").get_job(NAME)) for _ in range(40)
        ]
        await until(lambda: "/token/stalled" in server.calls)
        started = time.monotonic()
        job = await asyncio.wait_for(GeminiBatchAsyncHook().get_job(NAME), 20)
        took = time.monotonic() - started
        assert job.name == NAME
        assert not any(task.done() for task in stalled)
        server.released.set()
        await asyncio.gather(*stalled)
        return took

    assert asyncio.run(both()) < 15


@pytest.mark.parametrize("connection", [None, "", "nonsense"])
def test_a_connection_that_is_not_there_is_an_error_of_the_package(
    server: Server, monkeypatch: pytest.MonkeyPatch, connection: str | None
) -> None:
    async def look() -> None:
        await GeminiBatchAsyncHook(gcp_conn_id="absent").get_job(NAME)

    with pytest.raises(CredentialsUnavailableError, match="'absent'") as caught:
        asyncio.run(look())
    assert caught.value.is_transient
    assert caught.value.gcp_conn_id == "absent"


def test_the_error_of_a_broken_key_does_not_quote_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "keyfile_dict": json.dumps({"type": "service_account", "private_key": "SECRET", "client_email": "a"})
    }
    connection = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection)
    with pytest.raises(CredentialsUnavailableError) as caught:
        GeminiBatchHook().get_job(NAME)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("location", ["localhost:8080#", "evil.example/", "a@b"])
def test_no_call_goes_to_a_host_of_the_callers_choosing(server: Server, location: str) -> None:
    hook = GeminiBatchHook()
    odd = JobName("p", location, "1")
    for call in (
        lambda: hook.get_job(odd),
        lambda: hook.cancel_job(odd),
        lambda: hook.delete_job(odd),
        lambda: hook.list_jobs("p", location, ""),
        lambda: hook.create_job(JobSpec("p", location, "m", ("gs://b/o",), "gs://b/out")),
    ):
        with pytest.raises(InvalidParameterError, match="location="):
            call()
    assert server.calls == []
