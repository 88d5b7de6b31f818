from __future__ import annotations

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.gcs_uri import check_folder, is_folder, is_object, split_folder, split_uri


@pytest.mark.parametrize(
    ("uri", "folder", "object_"),
    [
        ("gs://bucket", True, False),
        ("gs://bucket/", True, False),
        ("gs://bucket/in", True, True),
        ("gs://bucket/in/", True, False),
        ("gs://bucket/in/*.jsonl", False, True),
        ("gs://Bucket/in", False, False),
        ("bucket/in", False, False),
        (7, False, False),
    ],
)
def test_folders_and_objects(uri: object, folder: bool, object_: bool) -> None:
    assert is_folder(uri) is folder
    assert is_object(uri) is object_


def test_a_folder_loses_its_trailing_slash() -> None:
    assert check_folder("staging_uri", "gs://bucket/in/") == "gs://bucket/in"
    with pytest.raises(InvalidParameterError, match="staging_uri='in': give gs://bucket/prefix"):
        check_folder("staging_uri", "in")


def test_splitting() -> None:
    assert split_uri("gs://bucket/in/a.jsonl") == ("bucket", "in/a.jsonl")
    assert split_folder("gs://bucket/in/") == ("bucket", "in/")
    assert split_folder("gs://bucket") == ("bucket", "")
