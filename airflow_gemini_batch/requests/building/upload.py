"""Streams request lines to objects in Cloud Storage, split at the limits of a job."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from airflow_gemini_batch.exceptions import Described, InvalidParameterError, RequestsError
from airflow_gemini_batch.gcp.gcs_uri import check_folder, split_folder
from airflow_gemini_batch.requests.building.manifest import RequestsManifest, RequestsObject
from airflow_gemini_batch.requests.checking.key_uniqueness import Duplicates
from airflow_gemini_batch.service import MAX_BYTES, MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.cloud.storage import Bucket, Client

    from airflow_gemini_batch.requests.building.build import Line

MAX_LINE = 100_000_000
"""Maximum size of a line in bytes: the service imports lines into BigQuery, whose rows are not larger."""

_CHUNK = 8 * 1024 * 1024
_BATCH = 1024 * 1024
_MANIFEST = "manifest.json"


def upload(
    lines: Iterable[Line],
    folder: str,
    storage: Client,
    *,
    into: str | None = None,
    inspect: Callable[[], Inspector] | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    max_objects: int | None = None,
) -> RequestsManifest:
    """Write lines to objects in a folder, each within the limits of one job, in constant memory.

    The name of an object is derived from its content, and an object that exists is not written again: a
    second upload of the same lines changes nothing, not even a timestamp.

    :param folder: ``gs://bucket/prefix`` that only this run uses
    :param into: where the objects are when they are complete, which several runs may share; default: there
    :param inspect: creates an inspector for each object, which raises to reject it
    :param max_objects: maximum number of objects
    :raises InvalidParameterError: two requests have the same key, one is too large for a job, or the lines
        need more objects than ``max_objects``
    :raises RequestsError: the stored object differs from what was sent
    """
    bucket, prefix = _place(folder, storage)
    _, target = _place(into or folder, storage)
    uploader = _Uploader(
        bucket, prefix, target, inspect, max_rows or MAX_ROWS, max_bytes or MAX_BYTES, max_objects
    )
    keys = content = 0
    with Duplicates() as duplicates:
        try:
            for line in lines:
                uploader.add(line)
                duplicates.add(line.key)
                keys += zlib.crc32(line.key.encode())
                content += zlib.crc32(line.data)
            uploader.finish()
        except BaseException:
            uploader.abandon()
            raise
        duplicates.check()
    return RequestsManifest(tuple(uploader.done), keys, content)


class Inspector:
    """Inspects the lines of one object. This base class accepts everything."""

    def add(self, line: bytes) -> None:
        """Inspect the next line."""

    def finish(self) -> None:
        """Raise if a job would reject the lines. Called after the last line."""


def previous(folder: str, storage: Client) -> RequestsManifest | None:
    """Return the manifest that an earlier try of this run stored, None if there is none."""
    bucket, prefix = _place(folder, storage)
    found = bucket.get_blob(f"{prefix}{_MANIFEST}")
    return None if found is None else RequestsManifest.from_dict(json.loads(found.download_as_bytes()))


def remember(manifest: RequestsManifest, folder: str, storage: Client) -> None:
    """Store the manifest for the next try of this run."""
    bucket, prefix = _place(folder, storage)
    text = json.dumps(manifest.to_dict(), indent=1)
    bucket.blob(f"{prefix}{_MANIFEST}").upload_from_string(text, content_type="application/json")


def _place(folder: str, storage: Client) -> tuple[Bucket, str]:
    name, prefix = split_folder(check_folder("staging_uri", folder))
    return storage.bucket(name), prefix


@dataclass
class _Uploader:
    """Distributes lines over objects."""

    bucket: Bucket
    prefix: str
    target: str
    inspect: Callable[[], Inspector] | None
    max_rows: int
    max_bytes: int
    max_objects: int | None
    done: list[RequestsObject] = field(default_factory=list)
    _current: _Object | None = None

    def add(self, line: Line) -> None:
        size = len(line.data)
        if size > min(MAX_LINE, self.max_bytes):
            raise InvalidParameterError(
                "prompts",
                Described(f"(request {line.key!r}, {size:,} bytes)"),
                "it is too large for a job; shorten it",
            )
        current = self._current
        if current and (current.rows >= self.max_rows or current.size + size > self.max_bytes):
            self.finish()
        if self._current is None:
            if len(self.done) == self.max_objects:
                raise InvalidParameterError(
                    "prompts",
                    Described(f"(over {sum(each.rows for each in self.done):,} requests)"),
                    f"a job takes {self.max_rows:,} requests and {self.max_bytes:,} bytes; the task group "
                    "gemini_batch() creates several jobs",
                )
            self._current = _Object(self.bucket, self.prefix, self.target, len(self.done), self.inspect)
        self._current.add(line)

    def finish(self) -> None:
        if self._current:
            self.done.append(self._current.finish())
            self._current = None

    def abandon(self) -> None:
        if self._current:
            self._current.abandon()


@dataclass
class _Object:
    """An object being written. Its name depends on its content, so it is copied to that name at the end."""

    bucket: Bucket
    prefix: str
    target: str
    index: int
    inspect: Callable[[], Inspector] | None
    rows: int = 0
    size: int = 0
    first_key: str = ""
    last_key: str = ""
    _batch: list[bytes] = field(default_factory=list)
    _batched: int = 0

    def __post_init__(self) -> None:
        from google_crc32c import Checksum

        self._digest = hashlib.sha256()
        self._checksum = Checksum()  # type: ignore[no-untyped-call]
        self._inspector = self.inspect() if self.inspect else Inspector()
        # The same name in all tries, so that killed workers leave at most one such object behind.
        self._growing = self.bucket.blob(f"{self.prefix}requests-{self.index:05d}.growing")
        self._writer: IO[bytes] = self._growing.open("wb", chunk_size=_CHUNK, ignore_flush=True)

    def add(self, line: Line) -> None:
        self._inspector.add(line.data)
        self.rows += 1
        self.size += len(line.data)
        self.first_key = self.first_key or line.key
        self.last_key = line.key
        self._batch.append(line.data)
        self._batched += len(line.data)
        if self._batched >= _BATCH:
            self._send()

    def finish(self) -> RequestsObject:
        """Copy the object to its name, unless an object of that name, and so of that content, exists."""
        self._send()
        self._inspector.finish()
        self._writer.close()
        digest = self._digest.hexdigest()
        final = self.bucket.blob(f"{self.target}requests-{self.index:05d}-{digest[:16]}.jsonl")
        if not final.exists():
            self._name_it(final.name)
        self._growing.delete()
        uri = f"gs://{self.bucket.name}/{final.name}"
        return RequestsObject(uri, self.rows, self.size, digest, self.first_key, self.last_key)

    def abandon(self) -> None:
        """Leave the object unfinished. Storage clients before 3.0 complete it under its temporary name."""
        getattr(self._writer, "terminate", self._writer.close)()

    def _name_it(self, name: str) -> None:
        import base64

        from google.api_core.exceptions import PreconditionFailed

        self._growing.reload()
        checksum = base64.b64encode(self._checksum.digest()).decode()  # type: ignore[no-untyped-call]
        if (self._growing.size, self._growing.crc32c) != (self.size, checksum):
            raise RequestsError(
                f"gs://{self.bucket.name}/{self._growing.name} differs from what was sent. Is another try of "
                "this task still running? Nothing was submitted; retrying is safe."
            )
        try:
            self.bucket.copy_blob(
                self._growing,
                self.bucket,
                name,
                source_generation=self._growing.generation,
                if_generation_match=0,
            )
        except PreconditionFailed:
            return  # Another try was faster. The same name means the same content.

    def _send(self) -> None:
        data = b"".join(self._batch)
        self._digest.update(data)
        self._checksum.update(data)  # type: ignore[no-untyped-call]
        self._writer.write(data)
        self._batch.clear()
        self._batched = 0
