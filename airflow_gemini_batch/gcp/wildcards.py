"""Wildcards in the URI of a job's input, and the objects that they match.

Cloud Storage reads ``*`` as characters within a folder, ``**`` as characters across folders, ``?`` as one
character and ``[abc]``, ``[a-m]`` as one of some characters. The service's API refers to that. But whether
its ``*`` stays within a folder is not published, nor whether it finds an object with a ``?`` or ``[`` in its
name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.gcp.gcs_uri import split_uri, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from google.cloud.storage import Blob, Client

    _Test = Callable[[str], object]

_PIECE = re.compile(r"\*\*+|\*|\?|\[!?\]?[^\]]*\]|[^*?\[]+|\[", re.DOTALL)
_SHOWN = 5


@dataclass(frozen=True)
class Matches:
    """The objects that a URI may match.

    :param readings: the objects with ``*`` within a folder, and those with ``*`` across folders. A second
        pair takes ``?`` and ``[`` as part of the name. A pair without any object is left out
    """

    uri: str
    readings: tuple[tuple[tuple[Blob, ...], tuple[Blob, ...]], ...]

    @classmethod
    def of(cls, uri: str, blobs: Iterable[Blob]) -> Matches:
        """Select the objects that a URI matches.

        :param blobs: all objects of its bucket whose names begin with :func:`prefix_of`
        """
        listed = list(blobs)
        found = []
        for is_within, is_across in _readings(split_uri(uri)[1]):
            across = tuple(blob for blob in listed if is_across(blob.name))
            if across:
                found.append((tuple(blob for blob in across if is_within(blob.name)), across))
        return cls(uri, tuple(found))

    @property
    def objects(self) -> tuple[Blob, ...]:
        """The objects as Cloud Storage reads the URI; if there are none, those across folders."""
        return next((within for within, _ in self.readings if within), self.across)

    @property
    def across(self) -> tuple[Blob, ...]:
        """The objects with ``*`` across folders."""
        return self.readings[0][1] if self.readings else ()

    @property
    def disputed(self) -> tuple[str, ...]:
        """Names of the objects that match in one reading and not in another."""
        names: list[set[object]] = [
            {str(blob.name) for blob in found} for pair in self.readings for found in pair
        ]
        both = set.union(*names) - set.intersection(*names) if names else ()
        return tuple(sorted(map(str, both)))

    def check(self, parameter: str = "input_uri") -> None:
        """Refuse a URI that matches other objects in another reading.

        :raises InvalidParameterError: names some of them
        """
        if self.disputed:
            raise disputed_error(self.uri, self.disputed, parameter)


def disputed_error(uri: str, names: tuple[str, ...], parameter: str = "input_uri") -> InvalidParameterError:
    """Return the error for a URI whose readings match different objects.

    :param names: of the objects that match in one reading only
    """
    bucket, pattern = split_uri(uri)
    shown = ", ".join(f"gs://{bucket}/{name}" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    readings, fix = (
        "* may stay within a folder, as in Cloud Storage, or match across folders",
        "Write ** to match across folders; otherwise list the objects one by one, or move the others away",
    )
    if not re.search(r"(?<!\*)\*(?!\*)", pattern):
        readings = "? and [ may be wildcards, as in Cloud Storage, or a part of the name"
        fix = "Rename the objects, or move the others away"
    return InvalidParameterError(
        parameter,
        uri,
        f"it can be read in two ways, and how the service reads it is not published: {readings}. In only one "
        f"of these ways, it matches {counted(len(names), 'object')}: {shown}{more}. {fix}",
    )


@dataclass(frozen=True)
class Repeated:
    """An object that several URIs match, or one URI that is given twice: its rows would be paid twice."""

    object_uri: str
    uris: tuple[str, str]

    def error(self, parameter: str = "input_uri") -> InvalidParameterError:
        """Return the error that names the object and what it is given by."""
        first, second = self.uris
        by = "" if first == second == self.object_uri else f", by {first} and by {second}"
        if first == second != self.object_uri:
            by = f", since {first} is"
        return InvalidParameterError(
            parameter,
            self.object_uri,
            f"it is given twice{by}. All its rows would run and be paid twice; leave one of the two out",
        )


def repeated(found: Iterable[Matches]) -> Repeated | None:
    """Return the first object that occurs twice, if any does.

    :param found: the objects of each URI; they need the field ``bucket``
    """
    seen: dict[str, str] = {}
    for matches in found:
        for blob in matches.objects:
            object_uri = uri_of(blob)
            if object_uri in seen:
                return Repeated(object_uri, (seen[object_uri], matches.uri))
            seen[object_uri] = matches.uri
    return None


def find(uri: str, storage: Client, fields: str) -> Matches:
    """List the objects that a URI matches.

    :param fields: object fields to request, such as ``bucket,name,generation``
    """
    bucket, name = split_uri(uri)
    listed = storage.list_blobs(bucket, prefix=prefix_of(name), fields=f"items({fields}),nextPageToken")
    return Matches.of(uri, listed)


def prefix_of(name: str) -> str:
    """Return what all names begin with that a pattern matches in any reading."""
    return re.split(r"[*?\[]", name, maxsplit=1)[0]


def may_match(pattern: str, uri: str) -> bool:
    """Whether a URI with wildcards matches an object in any reading."""
    (bucket, name), (found, of) = split_uri(pattern), split_uri(uri)
    return bucket == found and any(is_read(of) for pair in _readings(name) for is_read in pair)


def _readings(name: str) -> Iterator[tuple[_Test, _Test]]:
    """Yield tests for the name of an object, with ``*`` within and across folders.

    A second pair takes ``?`` and ``[`` as part of the name, if it has any.
    """
    for is_literal in (False, True) if re.search(r"[?\[]", name) else (False,):
        within, across = (_compiled(name, star=star, is_literal=is_literal) for star in ("[^/]*", ".*"))
        yield within.fullmatch, across.fullmatch


def _compiled(name: str, *, star: str, is_literal: bool) -> re.Pattern[str]:
    pieces = []
    for piece in _PIECE.findall(name):
        if piece.startswith("*"):
            pieces.append(star if piece == "*" else ".*")
        elif piece == "?" and not is_literal:
            pieces.append("[^/]")
        elif piece.startswith("[") and len(piece) > 1 and not is_literal:
            pieces.append(_one_of(piece))
        else:
            pieces.append(re.escape(piece))
    return re.compile("".join(pieces), re.DOTALL)


def _one_of(piece: str) -> str:
    """Return the expression for ``[abc]``, ``[a-m]`` or ``[!a]``."""
    negated, characters = piece[1] == "!", piece[2 if piece[1] == "!" else 1 : -1]
    if not characters:
        return re.escape(piece)
    escaped = re.sub(r"([^A-Za-z0-9-])", r"\\\1", characters)
    expression = f"[^/{escaped}]" if negated else f"[{escaped}]"
    try:
        re.compile(expression)
    except re.error:  # A range from back to front.
        return re.escape(piece)
    return expression
