from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.wildcards import Matches, find, may_match, prefix_of

if TYPE_CHECKING:
    from google.cloud import storage

FLAT = ("in/a.jsonl", "in/b.jsonl", "in/other.txt", "out/a.jsonl")
DEEP = (*FLAT, "in/old/c.jsonl", "in/old/d/e.jsonl")


@pytest.fixture
def put(storage_client: storage.Client, bucket: str) -> str:
    for name in (*DEEP, "odd/part[1].jsonl", "odd/what?.jsonl", "both/x1.jsonl", "both/x[12].jsonl"):
        storage_client.bucket(bucket).blob(name).upload_from_string(b"{}")
    return bucket


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("in/a.jsonl", ["in/a.jsonl"]),
        ("in/a*", ["in/a.jsonl"]),
        ("*/a.jsonl", ["in/a.jsonl", "out/a.jsonl"]),
        ("in/**", ["in/a.jsonl", "in/b.jsonl", "in/old/c.jsonl", "in/old/d/e.jsonl", "in/other.txt"]),
        ("in/**.jsonl", ["in/a.jsonl", "in/b.jsonl", "in/old/c.jsonl", "in/old/d/e.jsonl"]),
        ("in/old/?.jsonl", ["in/old/c.jsonl"]),
        ("in?a.jsonl", []),
        ("in/?.jsonl", ["in/a.jsonl", "in/b.jsonl"]),
        ("in/[ab].jsonl", ["in/a.jsonl", "in/b.jsonl"]),
        ("in/[b-z].jsonl", ["in/b.jsonl"]),
        ("in/[!a].jsonl", ["in/b.jsonl"]),
        ("in/[z-b].jsonl", []),
        ("odd/part[1].jsonl", ["odd/part[1].jsonl"]),
        ("odd/part[1]*", ["odd/part[1].jsonl"]),
        ("odd/part[", []),
        ("odd/what?.jsonl", ["odd/what?.jsonl"]),
        ("odd/part[[]1].jsonl", ["odd/part[1].jsonl"]),
    ],
)
def test_what_cloud_storage_matches(
    put: str, storage_client: storage.Client, pattern: str, names: list[str]
) -> None:
    matches = find(f"gs://{put}/{pattern}", storage_client, "bucket,name")
    assert sorted(blob.name for blob in matches.objects) == names
    assert matches.disputed == ()
    matches.check()


@pytest.mark.parametrize(
    ("pattern", "names", "disputed"),
    [
        ("in/*.jsonl", ["in/a.jsonl", "in/b.jsonl"], ["in/old/c.jsonl", "in/old/d/e.jsonl"]),
        ("in/*/*.jsonl", ["in/old/c.jsonl"], ["in/old/d/e.jsonl"]),
        ("*/e.jsonl", ["in/old/d/e.jsonl"], ["in/old/d/e.jsonl"]),
        ("both/x[12].jsonl", ["both/x1.jsonl"], ["both/x1.jsonl", "both/x[12].jsonl"]),
    ],
)
def test_two_readings(
    put: str, storage_client: storage.Client, pattern: str, names: list[str], disputed: list[str]
) -> None:
    """Of the objects, those within the folder count, if there are any."""
    matches = find(f"gs://{put}/{pattern}", storage_client, "bucket,name")
    assert sorted(blob.name for blob in matches.objects) == names
    assert list(matches.disputed) == disputed
    with pytest.raises(InvalidParameterError, match=r"can be read in two ways") as caught:
        matches.check()
    assert all(f"gs://{put}/{name}" in str(caught.value) for name in disputed)


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def test_of_many_objects_some_are_named() -> None:
    blobs = [Named(f"in/old/{number:04}.jsonl") for number in range(1_200)]
    with pytest.raises(InvalidParameterError) as caught:
        Matches.of("gs://bucket/in/*", blobs).check()  # type: ignore[arg-type]
    assert "1,200 objects: gs://bucket/in/old/0000.jsonl, " in str(caught.value)
    assert "0004.jsonl and 1,195 more. Write **" in str(caught.value)
    assert "0005.jsonl" not in str(caught.value)


def test_what_is_listed() -> None:
    assert [prefix_of(name) for name in ("in/a", "in/*.x", "in/**", "in/a?", "in/a[1]")] == [
        "in/a",
        "in/",
        "in/",
        "in/a",
        "in/a",
    ]


@pytest.mark.parametrize(
    ("pattern", "uri", "matches"),
    [
        ("gs://b/*", "gs://b/x/y", True),
        ("gs://b/x/?", "gs://b/x/y", True),
        ("gs://b/x[1]/*", "gs://b/x[1]/y/z", True),
        ("gs://b/x[1]/*", "gs://b/x1/y", True),
        ("gs://b/y/*", "gs://b/x/y", False),
        ("gs://c/*", "gs://b/x", False),
    ],
)
def test_what_may_match(pattern: str, uri: str, matches: bool) -> None:
    assert may_match(pattern, uri) is matches
