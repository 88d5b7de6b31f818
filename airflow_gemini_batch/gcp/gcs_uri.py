"""Objects in Cloud Storage, by the URIs that a job is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud.storage import Blob, Client

BUCKET_PATTERN = r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
# BigQuery and the service read ``*`` as any characters.
_FOLDER = re.compile(rf"{BUCKET_PATTERN}(/[^*\r\n]*)?")


def is_folder(uri: object) -> bool:
    """Whether it is ``gs://bucket`` or ``gs://bucket/prefix``."""
    return isinstance(uri, str) and bool(_FOLDER.fullmatch(uri))


def check_folder(parameter: str, uri: str) -> str:
    """``gs://bucket/prefix`` without a slash at its end.

    :raises InvalidParameterError: it is something else
    """
    if not is_folder(uri):
        raise InvalidParameterError(parameter, uri, "give gs://bucket/prefix")
    return uri.rstrip("/")


def split_uri(uri: str) -> tuple[str, str]:
    """``gs://bucket/name`` → bucket and name."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def split_folder(uri: str) -> tuple[str, str]:
    """Split ``gs://bucket/prefix`` into bucket and ``prefix/``; the prefix of a whole bucket is empty."""
    bucket, prefix = split_uri(uri.rstrip("/"))
    return bucket, f"{prefix}/" if prefix else ""


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
