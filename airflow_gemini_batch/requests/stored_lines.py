"""Streams lines of JSONL from Cloud Storage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.wildcards import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.cloud.storage import Blob, Client

_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class StoredLines:
    """The objects that match some URIs.

    :param size: total, in bytes
    """

    objects: tuple[Blob, ...]
    size: int

    @classmethod
    def find(cls, uris: Sequence[str], storage: Client) -> StoredLines:
        """Find objects by URI, which may have wildcards.

        :raises InvalidParameterError: a URI matches no object, or other objects in another reading, or may
            not be read
        """
        from google.api_core.exceptions import Forbidden, NotFound

        found: list[Blob] = []
        for uri in uris:
            try:
                matches = find(uri, storage, "bucket,name,generation,size")
            except NotFound:
                raise InvalidParameterError(
                    "input_uri", uri, "there is no such bucket; correct the URI"
                ) from None
            except Forbidden as error:
                raise InvalidParameterError(
                    "input_uri", uri, f"it may not be read: {error.message}"
                ) from None
            matches.check()
            if not matches.objects:
                raise InvalidParameterError("input_uri", uri, "there is no such object; correct the URI")
            found.extend(sorted(matches.objects, key=lambda blob: str(blob.name)))
        return cls(tuple(found), sum(int(blob.size or 0) for blob in found))

    def read(self, start_file: Callable[[str], None]) -> Iterator[bytes]:
        """Yield the lines, each with a newline at its end.

        :param start_file: called with the URI of each object before its first line
        """
        for blob in self.objects:
            start_file(f"gs://{blob.bucket.name}/{blob.name}")
            yield from lines_of(blob, _CHUNK)


def lines_of(blob: Blob, chunk_size: int, start: int = 0) -> Iterator[bytes]:
    """Yield the lines of an object, each with a newline at its end.

    Does not use ``Blob.open``: it reads past the end and leaves the connection of the failed request open.

    :param blob: must have its size
    :param chunk_size: number of bytes to download at a time
    :param start: the byte to start at
    """
    at, size = start, int(blob.size or 0)
    begun: list[bytes] = []
    while at < size:
        chunk: bytes = blob.download_as_bytes(start=at, end=min(at + chunk_size, size) - 1, checksum=None)
        at += len(chunk) or size  # An empty chunk must not loop forever.
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
