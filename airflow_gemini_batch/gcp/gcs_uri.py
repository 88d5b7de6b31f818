"""Cloud Storage URIs: checking and splitting."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

BUCKET_PATTERN = r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
_FOLDER = re.compile(rf"{BUCKET_PATTERN}(/[^*\r\n]*)?")
_OBJECT = re.compile(rf"{BUCKET_PATTERN}/.*[^/\r\n]")


def is_folder(uri: object) -> bool:
    """Whether it is ``gs://bucket`` or ``gs://bucket/prefix``, without ``*``."""
    return isinstance(uri, str) and bool(_FOLDER.fullmatch(uri))


def is_object(uri: object) -> bool:
    """Whether it is ``gs://bucket/name``; the name may have wildcards."""
    return isinstance(uri, str) and bool(_OBJECT.fullmatch(uri))


def check_folder(parameter: str, uri: str) -> str:
    """Return ``gs://bucket/prefix`` without a trailing slash.

    :raises InvalidParameterError: it is not the URI of a bucket or folder
    """
    if not is_folder(uri):
        raise InvalidParameterError(parameter, uri, "give gs://bucket/prefix")
    return uri.rstrip("/")


def uri_of(blob: Blob) -> str:
    """Return ``gs://bucket/name`` of an object."""
    return f"gs://{blob.bucket.name}/{blob.name}"


def split_uri(uri: str) -> tuple[str, str]:
    """Split ``gs://bucket/name`` into bucket and name."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


def split_folder(uri: str) -> tuple[str, str]:
    """Split ``gs://bucket/prefix`` into bucket and ``prefix/``; the prefix of a whole bucket is empty."""
    bucket, prefix = split_uri(uri.rstrip("/"))
    return bucket, f"{prefix}/" if prefix else ""


def is_missing(bucket: str, storage: Client) -> bool:
    """Whether a bucket is known not to exist; to read its metadata takes a permission of its own."""
    from google.api_core.exceptions import Forbidden, NotFound

    try:
        storage.get_bucket(bucket)
    except NotFound:
        return True
    except Forbidden:
        pass
    return False
