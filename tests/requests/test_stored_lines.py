from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.requests.stored_lines import StoredLines, lines_of
from tests.recorder import Recorder

if TYPE_CHECKING:
    from google.cloud.storage import Bucket, Client

    from tests.conftest import RunningStack

CONTENT = b"one\ntwo\r\n\n" + b"long" * 5 + b"\n\xe2\x80\xa8 last"


def stored(bucket: Bucket, content: bytes) -> StoredLines:
    bucket.blob("lines.jsonl").upload_from_string(content)
    return StoredLines.find([f"gs://{bucket.name}/lines.jsonl"], bucket.client)


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 1000])
@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"a\n", CONTENT, CONTENT + b"\n"])
def test_lines_do_not_depend_on_how_they_are_read(
    storage_client: Client, bucket: str, content: bytes, chunk: int
) -> None:
    (blob,) = stored(storage_client.bucket(bucket), content).objects
    ended = content if content.endswith(b"\n") or not content else content + b"\n"
    for start in {0, 1, 4, len(content)} & set(range(len(content) + 1)):
        assert b"".join(lines_of(blob, chunk, start)) == ended[start:] or start == len(content)
    assert list(lines_of(blob, chunk)) == [line + b"\n" for line in ended.split(b"\n")[:-1]]


def test_nothing_past_the_end_is_requested(
    stack: RunningStack, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would leave the response unread, and its connection open until garbage collection."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    with Recorder(stack.addresses.storage_url) as recorder:
        client = Client(
            "local-project", AnonymousCredentials(), client_options={"api_endpoint": recorder.url}
        )
        lines = stored(client.bucket(bucket), CONTENT)
        assert len(list(lines.read(str))) == len(list(islice(lines.read(str), 10))) == 5
        client.close()
    downloads = [seen.status for seen in recorder.seen if seen.is_download]
    assert downloads == [206, 206]
