"""Cloud Storage URIs: checking, splitting, and listing the objects that a pattern matches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud.storage import Blob, Client

BUCKET_PATTERN = r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
# BigQuery and the service treat ``*`` as a wildcard.
_FOLDER = re.compile(rf"{BUCKET_PATTERN}(/[^*\r\n]*)?")
_OBJECT = re.compile(rf"{BUCKET_PATTERN}/.*[^/\r\n]")


def is_folder(uri: object) -> bool:
    """Whether it is ``gs://bucket`` or ``gs://bucket/prefix``, without ``*``."""
    return isinstance(uri, str) and bool(_FOLDER.fullmatch(uri))


def is_object(uri: object) -> bool:
    """Whether it is ``gs://bucket/name``; the name may contain ``*``."""
    return isinstance(uri, str) and bool(_OBJECT.fullmatch(uri))


def check_folder(parameter: str, uri: str) -> str:
    """Return ``gs://bucket/prefix`` without a trailing slash.

    :raises InvalidParameterError: it is not the URI of a bucket or folder
    """
    if not is_folder(uri):
        raise InvalidParameterError(parameter, uri, "give gs://bucket/prefix")
    return uri.rstrip("/")


def split_uri(uri: str) -> tuple[str, str]:
    """Split ``gs://bucket/name`` into bucket and name."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def split_folder(uri: str) -> tuple[str, str]:
    """Split ``gs://bucket/prefix`` into bucket and ``prefix/``; the prefix of a whole bucket is empty."""
    bucket, prefix = split_uri(uri.rstrip("/"))
    return bucket, f"{prefix}/" if prefix else ""


def is_match(pattern: str, uri: str) -> bool:
    """Whether a URI with ``*``, which stands for any characters, matches an object."""
    (bucket, name), (found, of) = split_uri(pattern), split_uri(uri)
    return bucket == found and bool(_compiled(name).fullmatch(of))


def matching(uri: str, storage: Client, fields: str) -> Iterator[Blob]:
    """List the objects that a URI matches; ``*`` stands for any characters.

    :param fields: object fields to request, such as ``bucket,name,generation``
    """
    bucket, name = split_uri(uri)
    pattern = _compiled(name)
    listed = storage.list_blobs(bucket, prefix=name.split("*")[0], fields=f"items({fields}),nextPageToken")
    for blob in listed:
        if pattern.fullmatch(blob.name):
            yield blob


def _compiled(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(piece) for piece in name.split("*")), re.DOTALL)
