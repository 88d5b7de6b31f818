"""Objects in Cloud Storage, by the URIs that a job is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud.storage import Blob, Client


def split_uri(uri: str) -> tuple[str, str]:
    """``gs://bucket/name`` → bucket and name."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def matching(uri: str, storage: Client, fields: str) -> Iterator[Blob]:
    """The objects of a URI, which may hold ``*``.

    :param fields: what to read of each object, such as ``bucket,name,generation``
    """
    bucket, name = split_uri(uri)
    pattern = re.compile(".*".join(re.escape(piece) for piece in name.split("*")), re.DOTALL)
    listed = storage.list_blobs(bucket, prefix=name.split("*")[0], fields=f"items({fields}),nextPageToken")
    for blob in listed:
        if pattern.fullmatch(blob.name):
            yield blob
