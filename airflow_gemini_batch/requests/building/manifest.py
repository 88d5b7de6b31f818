"""The manifest of uploaded requests, and how the manifests of two tries differ."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from airflow_gemini_batch.formats import counted


@dataclass(frozen=True)
class RequestsObject:
    """One object in Cloud Storage that contains the requests of one job.

    :param bytes: its size
    :param digest: SHA-256 of its bytes
    """

    uri: str
    rows: int
    bytes: int
    digest: str
    first_key: str
    last_key: str


@dataclass(frozen=True)
class RequestsManifest:
    """The uploaded requests.

    :param objects: in the order of the lines
    :param keys: checksum of all keys that does not depend on their order
    :param content: checksum of all lines that does not depend on their order
    """

    objects: tuple[RequestsObject, ...] = ()
    keys: int = 0
    content: int = 0

    @property
    def uris(self) -> list[str]:
        """``gs://…`` of each object. Each is the input of one job."""
        return [each.uri for each in self.objects]

    @property
    def rows(self) -> int:
        """Total number of requests."""
        return sum(each.rows for each in self.objects)

    @property
    def bytes(self) -> int:
        """Total size in bytes."""
        return sum(each.bytes for each in self.objects)

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of the objects: equal for the same lines in the same order."""
        return hashlib.sha256("".join(each.digest for each in self.objects).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict, with the totals."""
        return {**asdict(self), "rows": self.rows, "bytes": self.bytes, "digest": self.digest}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> RequestsManifest:
        """Create a manifest from the result of :meth:`to_dict`."""
        objects = tuple(RequestsObject(**each) for each in document["objects"])
        return cls(objects, document["keys"], document["content"])


def difference(before: RequestsManifest, now: RequestsManifest) -> str | None:
    """Return how the requests of two tries differ, None if they are the same."""
    if before.digest == now.digest:
        return None
    if before.content == now.content and before.rows == now.rows:
        return "the requests are the same, in another order"
    if before.rows != now.rows:
        return f"{counted(before.rows, 'request')} before, {now.rows:,} now"
    if before.keys == now.keys:
        return "the keys are the same, but the content of requests has changed"
    return "the number of requests is the same, but keys or content have changed"
