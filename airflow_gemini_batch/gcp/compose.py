"""Composing objects of JSONL into one object, inside Cloud Storage."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.storage import Blob, Bucket

MAX_SOURCES = 32
"""Maximum number of objects in one call."""


def ends_its_last_line(blob: Blob) -> bool:
    """Whether the last byte of an object is a newline.

    :param blob: must have its size, which is not 0
    """
    return bool(blob.download_as_bytes(start=int(blob.size) - 1, checksum=None) == b"\n")


def compose_lines(sources: Sequence[tuple[Blob, bool]], bucket: Bucket, name: str) -> Blob:
    """Compose objects into one, in their order; no content passes through this process.

    An object of that name is left as it is: the name must stand for the content. Objects that are needed on
    the way have names that begin with it, and are deleted at the end.

    :param sources: objects of this bucket, of one storage class and of known generation, each with whether
        its last line has a newline
    :return: the object, with its size
    """
    from google.api_core.exceptions import PreconditionFailed

    if existing := bucket.get_blob(name):
        return existing
    made: list[Blob] = []
    pieces = _with_newlines(sources, bucket, name, made)
    numbers = count()
    while len(pieces) > MAX_SOURCES:
        pieces = [
            _composed(pieces[start : start + MAX_SOURCES], bucket, f"{name}.part-{next(numbers)}", made)
            for start in range(0, len(pieces), MAX_SOURCES)
        ]
    target = bucket.blob(name)
    target.content_type = "application/json"
    try:
        target.compose(pieces, if_generation_match=0)
    except PreconditionFailed:  # Another try was faster.
        target.reload()
    bucket.delete_blobs(made, on_error=lambda _: None)
    return target


def _with_newlines(
    sources: Sequence[tuple[Blob, bool]], bucket: Bucket, name: str, made: list[Blob]
) -> list[Blob]:
    """Return the objects with a newline between two lines that would become one."""
    newline = None
    pieces: list[Blob] = []
    for number, (blob, is_ended) in enumerate(sources, 1):
        pieces.append(blob)
        if is_ended or number == len(sources):
            continue
        if newline is None:
            newline = bucket.blob(f"{name}.newline")
            # Cloud Storage composes only objects of one storage class.
            newline.storage_class = blob.storage_class
            newline.upload_from_string(b"\n")
            made.append(newline)
        pieces.append(newline)
    return pieces


def _composed(pieces: Sequence[Blob], bucket: Bucket, name: str, made: list[Blob]) -> Blob:
    if len(pieces) == 1:
        return pieces[0]
    from google.cloud.storage.retry import DEFAULT_RETRY

    part = bucket.blob(name)
    # Without a precondition the client would not retry; a second part has the same content.
    part.compose(list(pieces), retry=DEFAULT_RETRY)
    made.append(part)
    return part
