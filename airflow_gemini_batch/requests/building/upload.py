"""Lines → objects in Cloud Storage: streamed, split at the service's limits, the same for the same lines."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError, RequestsError
from airflow_gemini_batch.gcp.gcs_uri import check_folder, split_folder
from airflow_gemini_batch.requests.building.manifest import RequestsManifest, RequestsObject
from airflow_gemini_batch.requests.checking.import_check import MAX_BYTES, MAX_ROWS
from airflow_gemini_batch.requests.checking.key_uniqueness import Duplicates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.cloud.storage import Bucket, Client

    from airflow_gemini_batch.requests.building.build import Line

MAX_LINE = 100_000_000
"""Bytes in one line: more do not fit into a row of BigQuery, through which the service imports."""

_CHUNK = 8 * 1024 * 1024
_BATCH = 1024 * 1024
_MANIFEST = "manifest.json"


def upload(
    lines: Iterable[Line],
    folder: str,
    storage: Client,
    *,
    inspect: Callable[[], Inspector] | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    max_objects: int | None = None,
) -> RequestsManifest:
    """Write lines to objects of a folder, each within the limits of one job, in constant memory.

    An object's name follows from its content. One that is there already is left as it is, so that a
    second upload of the same lines changes nothing, not even a time.

    :param folder: ``gs://bucket/prefix`` that is this run's alone
    :param max_objects: refuse what needs more jobs than that
    :param inspect: makes what looks at the lines of an object and refuses it by raising
    :raises InvalidParameterError: two requests have the same key, or one does not fit into a job
    :raises RequestsError: what lies in storage is not what was sent
    """
    uploader = _Uploader(
        *_place(folder, storage), inspect, max_rows or MAX_ROWS, max_bytes or MAX_BYTES, max_objects
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
    """Looks at the lines of one object. This one finds nothing wrong; the importer's rules do."""

    def add(self, line: bytes) -> None:
        """See the next line."""

    def finish(self) -> None:
        """All lines were seen: raise if a job would refuse them."""


def previous(folder: str, storage: Client) -> RequestsManifest | None:
    """Read what an earlier try of this run has noted down."""
    bucket, prefix = _place(folder, storage)
    found = bucket.get_blob(f"{prefix}{_MANIFEST}")
    return None if found is None else RequestsManifest.from_dict(json.loads(found.download_as_bytes()))


def remember(manifest: RequestsManifest, folder: str, storage: Client) -> None:
    """Note down what was uploaded, for the next try of this run."""
    bucket, prefix = _place(folder, storage)
    text = json.dumps(manifest.to_dict(), indent=1)
    bucket.blob(f"{prefix}{_MANIFEST}").upload_from_string(text, content_type="application/json")


def _place(folder: str, storage: Client) -> tuple[Bucket, str]:
    name, prefix = split_folder(check_folder("staging_uri", folder))
    return storage.bucket(name), prefix


@dataclass
class _Uploader:
    """Gives each line to an object that has room for it."""

    bucket: Bucket
    prefix: str
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
                "prompts", f"{size:,} bytes", f"the request {line.key!r} is too large for a job"
            )
        current = self._current
        if current and (current.rows >= self.max_rows or current.size + size > self.max_bytes):
            self.finish()
        if self._current is None:
            if len(self.done) == self.max_objects:
                raise InvalidParameterError(
                    "prompts",
                    f"over {sum(each.rows for each in self.done):,} requests",
                    f"a job takes {self.max_rows:,} requests and {self.max_bytes:,} bytes; the task group "
                    "gemini_batch() makes several jobs",
                )
            self._current = _Object(self.bucket, self.prefix, len(self.done), self.inspect)
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
    """An object under way. It gets its name when its content is known, by a copy inside Cloud Storage."""

    bucket: Bucket
    prefix: str
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
        # One name for all tries, so that a killed worker leaves at most one such object behind.
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
        """Give the object its name, unless one of that name and so of that content is there."""
        self._send()
        self._inspector.finish()
        self._writer.close()
        digest = self._digest.hexdigest()
        final = self.bucket.blob(f"{self.prefix}requests-{self.index:05d}-{digest[:16]}.jsonl")
        if not final.exists():
            self._name_it(final.name)
        self._growing.delete()
        uri = f"gs://{self.bucket.name}/{final.name}"
        return RequestsObject(uri, self.rows, self.size, digest, self.first_key, self.last_key)

    def abandon(self) -> None:
        """Leave the object unfinished; a storage client before 3.0 finishes it under its own name."""
        getattr(self._writer, "terminate", self._writer.close)()

    def _name_it(self, name: str) -> None:
        import base64

        from google.api_core.exceptions import PreconditionFailed

        self._growing.reload()
        checksum = base64.b64encode(self._checksum.digest()).decode()  # type: ignore[no-untyped-call]
        if (self._growing.size, self._growing.crc32c) != (self.size, checksum):
            raise RequestsError(
                f"gs://{self.bucket.name}/{self._growing.name} does not hold what was sent. Is another try "
                "of this task still running? Nothing was submitted; retrying is safe."
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
            return  # Another try was faster; the name says that the content is the same.

    def _send(self) -> None:
        data = b"".join(self._batch)
        self._digest.update(data)
        self._checksum.update(data)  # type: ignore[no-untyped-call]
        self._writer.write(data)
        self._batch.clear()
        self._batched = 0
