"""Uploads to the Cloud Storage emulator: split, named by content, idempotent."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.building.build import Line, build_lines
from airflow_gemini_batch.requests.building.manifest import RequestsManifest, difference
from airflow_gemini_batch.requests.building.upload import Inspector, previous, remember, upload

if TYPE_CHECKING:
    from google.cloud import storage


def lines(*texts: str) -> list[Line]:
    return list(build_lines(texts))


@pytest.fixture
def folder(bucket: str) -> str:
    return f"gs://{bucket}/some/run"


def contents(client: storage.Client, manifest: RequestsManifest) -> list[bytes]:
    found = []
    for uri in manifest.uris:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        found.append(client.bucket(bucket).blob(name).download_as_bytes())
    return found


def names(client: storage.Client, bucket: str) -> dict[str, int]:
    return {blob.name: blob.generation for blob in client.list_blobs(bucket)}


def test_one_object(storage_client: storage.Client, folder: str) -> None:
    built = lines("a", "b")
    manifest = upload(built, folder, storage_client)
    data = b"".join(line.data for line in built)
    assert contents(storage_client, manifest) == [data]
    (only,) = manifest.objects
    assert (only.rows, only.bytes, only.digest) == (2, len(data), hashlib.sha256(data).hexdigest())
    assert (only.first_key, only.last_key) == (built[0].key, built[1].key)
    assert only.uri == f"{folder}/requests-00000-{only.digest[:16]}.jsonl"
    assert (manifest.rows, manifest.bytes) == (2, len(data))


def test_objects_stay_within_the_limits(storage_client: storage.Client, folder: str, bucket: str) -> None:
    built = lines(*(f"prompt {n:02d}" for n in range(10)))
    by_rows = upload(built, folder, storage_client, max_rows=4)
    assert [each.rows for each in by_rows.objects] == [4, 4, 2]
    assert b"".join(contents(storage_client, by_rows)) == b"".join(line.data for line in built)
    size = len(built[0].data)
    by_size = upload(built, f"{folder}-2", storage_client, max_bytes=3 * size)
    assert [each.rows for each in by_size.objects] == [3, 3, 3, 1]
    assert all(each.bytes <= 3 * size for each in by_size.objects)
    assert not [name for name in names(storage_client, bucket) if "growing" in name]


def test_many_chunks(storage_client: storage.Client, folder: str) -> None:
    built = lines(*(f"{n} " + "x" * 1_000_000 for n in range(20)))
    manifest = upload(built, folder, storage_client)
    assert hashlib.sha256(contents(storage_client, manifest)[0]).hexdigest() == manifest.objects[0].digest


def test_a_second_upload_changes_nothing(storage_client: storage.Client, folder: str, bucket: str) -> None:
    first = upload(lines("a", "b", "c"), folder, storage_client, max_rows=2)
    before = names(storage_client, bucket)
    assert upload(lines("a", "b", "c"), folder, storage_client, max_rows=2) == first
    assert names(storage_client, bucket) == before


def test_an_object_left_by_a_killed_worker_does_not_matter(
    storage_client: storage.Client, folder: str, bucket: str
) -> None:
    def killed() -> Any:
        yield from lines("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(killed(), folder, storage_client)
    assert not [name for name in names(storage_client, bucket) if name.endswith(".jsonl")]
    upload(lines("a"), folder, storage_client)
    assert len(names(storage_client, bucket)) == 1


def test_no_lines(storage_client: storage.Client, folder: str, bucket: str) -> None:
    manifest = upload([], folder, storage_client)
    assert (manifest.uris, manifest.rows) == ([], 0)
    assert names(storage_client, bucket) == {}


def test_duplicate_keys(storage_client: storage.Client, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_gemini_batch.requests.checking.key_uniqueness._KEYS_A_PASS", 4)
    built = lines(*map(str, range(20)))
    upload(built, folder, storage_client)
    with pytest.raises(InvalidParameterError, match=r"rows 3 and 21.*same key"):
        upload([*built, built[2]], folder, storage_client)


def test_a_line_that_is_too_large_for_a_job(storage_client: storage.Client, folder: str) -> None:
    with pytest.raises(InvalidParameterError, match="too large") as caught:
        upload(lines("secret " * 20), folder, storage_client, max_bytes=100)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("folder", ["bucket/x", "gs://", "s3://bucket/x", "gs://bucket/*", None])
def test_an_invalid_folder(storage_client: storage.Client, folder: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"staging_uri=.*gs://bucket/prefix"):
        upload(lines("a"), folder, storage_client)


def test_an_inspector_sees_each_object_and_can_reject_it(
    storage_client: storage.Client, folder: str, bucket: str
) -> None:
    seen: list[list[bytes]] = []

    class Recorder(Inspector):
        def __init__(self) -> None:
            seen.append([])

        def add(self, line: bytes) -> None:
            seen[-1].append(line)

        def finish(self) -> None:
            if len(seen) == 2:
                raise InvalidParameterError("prompts", "x", "refused")

    built = lines("a", "b", "c")
    with pytest.raises(InvalidParameterError, match="refused"):
        upload(built, folder, storage_client, max_rows=2, inspect=Recorder)
    assert seen == [[built[0].data, built[1].data], [built[2].data]]
    assert len([name for name in names(storage_client, bucket) if name.endswith(".jsonl")]) == 1


def test_the_manifest_is_kept_for_the_next_try(storage_client: storage.Client, folder: str) -> None:
    assert previous(folder, storage_client) is None
    manifest = upload(lines("a", "b"), folder, storage_client)
    remember(manifest, folder, storage_client)
    assert previous(folder, storage_client) == manifest
    assert json.dumps(manifest.to_dict())


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ([("a", "1"), ("b", "2")], None),
        ([("b", "2"), ("a", "1")], "in another order"),
        ([("a", "1")], "2 requests before, 1 now"),
        ([("a", "1"), ("b", "9")], "the keys are the same"),
        ([("a", "1"), ("c", "2")], "keys or content have changed"),
    ],
)
def test_what_differs_between_two_tries(
    storage_client: storage.Client, folder: str, now: list[tuple[str, str]], reason: str | None
) -> None:
    before = upload(build_lines([("a", "1"), ("b", "2")]), folder, storage_client)
    after = upload(build_lines(now), folder, storage_client)
    found = difference(before, after)
    assert found is None if reason is None else reason in (found or "")


def test_memory_does_not_grow_with_the_rows(storage_client: storage.Client, bucket: str) -> None:
    def prompts(count: int) -> Any:
        return (f"{n} {'x' * 1000}" for n in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            upload(build_lines(prompts(count)), f"gs://{bucket}/{count}", storage_client)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Both fill the chunk that is sent at a time.
    small, large = peak(20_000), peak(40_000)
    assert large - small < 2_000_000
