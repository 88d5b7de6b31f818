"""What was uploaded: objects of requests, and in what two tries of a run differ."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RequestsObject:
    """One object of requests, small enough for one job.

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
    """What was uploaded.

    :param objects: in the order of the lines
    :param keys: stands for all keys, in whatever order
    :param content: stands for all lines, in whatever order
    """

    objects: tuple[RequestsObject, ...] = ()
    keys: int = 0
    content: int = 0

    @property
    def uris(self) -> list[str]:
        """``gs://…`` of each object: the input of a job each."""
        return [each.uri for each in self.objects]

    @property
    def rows(self) -> int:
        """Requests in all."""
        return sum(each.rows for each in self.objects)

    @property
    def bytes(self) -> int:
        """Bytes in all."""
        return sum(each.bytes for each in self.objects)

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of the objects: equal for equal lines in equal order."""
        return hashlib.sha256("".join(each.digest for each in self.objects).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, with the totals."""
        return {**asdict(self), "rows": self.rows, "bytes": self.bytes, "digest": self.digest}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> RequestsManifest:
        """Read what :meth:`to_dict` has written."""
        objects = tuple(RequestsObject(**each) for each in document["objects"])
        return cls(objects, document["keys"], document["content"])


def difference(before: RequestsManifest, now: RequestsManifest) -> str | None:
    """Say in what the requests of two tries differ, or nothing when they do not."""
    if before.digest == now.digest:
        return None
    if before.content == now.content and before.rows == now.rows:
        return "the same requests come in another order"
    if before.rows != now.rows:
        return f"{before.rows:,} requests before, {now.rows:,} now"
    if before.keys == now.keys:
        return "the keys are the same, but requests under them have changed"
    return "as many requests as before, but with other keys or other text"
