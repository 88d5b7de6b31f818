"""Streams lines of JSONL from Cloud Storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.gcs_uri import uri_of
from airflow_gemini_batch.gcp.wildcards import find, repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.cloud.storage import Blob, Client

    from airflow_gemini_batch.gcp.wildcards import Matches

_CHUNK = 4 * 1024 * 1024
_FIELDS = "bucket,name,generation,size,crc32c,storageClass"


@dataclass(frozen=True)
class StoredLines:
    """The objects that match some URIs.

    :param size: total, in bytes
    """

    objects: tuple[Blob, ...]
    size: int

    @classmethod
    def find(cls, uris: Sequence[str], storage: Client, *, allow_empty: bool = False) -> StoredLines:
        """Find objects by URI, which may have wildcards.

        :param allow_empty: accept a URI that matches no object
        :raises InvalidParameterError: a URI matches no object, or other objects in another reading, or may
            not be read; or two URIs match the same object
        """
        from google.api_core.exceptions import Forbidden, NotFound

        found: list[Matches] = []
        for uri in uris:
            try:
                matches = find(uri, storage, _FIELDS)
            except NotFound:
                raise InvalidParameterError(
                    "input_uri", uri, "there is no such bucket; correct the URI"
                ) from None
            except Forbidden as error:
                raise InvalidParameterError(
                    "input_uri", uri, f"it may not be read: {error.message}"
                ) from None
            matches.check()
            if not matches.objects and not allow_empty:
                raise InvalidParameterError("input_uri", uri, "there is no such object; correct the URI")
            found.append(matches)
        if twice := repeated(found):
            raise twice.error()
        objects = [blob for each in found for blob in sorted(each.objects, key=lambda blob: str(blob.name))]
        return cls(tuple(objects), sum(int(blob.size or 0) for blob in objects))

    def read(self, start_file: Callable[[str], None]) -> Iterator[bytes]:
        """Yield the lines, each with a newline at its end.

        :param start_file: called with the URI of each object before its first line
        """
        for blob in self.objects:
            start_file(uri_of(blob))
            yield from lines_of(blob, _CHUNK)


def lines_of(blob: Blob, chunk_size: int, start: int = 0) -> Iterator[bytes]:
    """Yield the lines of an object, each with a newline at its end.

    :param blob: must have its size
    :param chunk_size: number of bytes to download at a time
    :param start: the byte to start at
    """
    begun: list[bytes] = []
    for chunk in _chunks(blob, chunk_size, start):
        first, *others = chunk.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun) + b"\n"
            *whole, last = others
            for line in whole:
                yield line + b"\n"
            begun = [last]
    if any(begun):
        yield b"".join(begun) + b"\n"


def count_lines(blob: Blob, chunk_size: int = _CHUNK) -> int:
    """Count the lines of an object; the last one may lack its newline.

    :param blob: must have its size
    """
    lines, last = 0, b"\n"
    for chunk in _chunks(blob, chunk_size):
        lines, last = lines + chunk.count(b"\n"), chunk[-1:] or last
    return lines + (last != b"\n")


def _chunks(blob: Blob, size: int, start: int = 0) -> Iterator[bytes]:
    """Download an object piece by piece.

    Does not use ``Blob.open``: it reads past the end and leaves the connection of the failed request open.
    """
    at, end = start, int(blob.size or 0)
    while at < end:
        chunk: bytes = blob.download_as_bytes(start=at, end=min(at + size, end) - 1, checksum=None)
        yield chunk
        at += len(chunk) or end  # An empty chunk must not loop forever.
