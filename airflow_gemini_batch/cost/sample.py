"""A part of an input that stands for the whole: read in a second, however large the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.requests.stored_lines import StoredLines, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from google.cloud import bigquery as bq
    from google.cloud.storage import Client

WHOLE_BYTES = 16 * 1024 * 1024
"""Smaller input is read as a whole."""

_WINDOWS = 64
_WINDOW_BYTES = 128 * 1024
# Lines may be long: pictures in base64 make some of 9 MB.
_MOST_BYTES = 64 * 1024 * 1024
_TABLE_ROWS = 640


@dataclass(frozen=True)
class Sample:
    """Lines of an input, in chunks that each stand for a part of it.

    :param whole_bytes: bytes of the whole input; ``None`` when the chunks are the whole
    :param rows: of the whole input, where that is known
    :param is_output: it is known to be the output of an earlier job
    """

    chunks: Iterable[Iterable[bytes]]
    whole_bytes: int | None = None
    rows: int | None = None
    is_output: bool = False


def sample_objects(uris: Sequence[str], storage: Client) -> Sample:
    """Read what begins in windows that are spread over the input.

    :param uris: ``gs://…``, ``*`` allowed
    :raises InvalidParameterError: a URI names no object
    """
    stored = StoredLines.find(uris, storage)
    if stored.size <= WHOLE_BYTES:
        return Sample((tuple(stored.read(lambda _: None)),))
    windows = [stored.size * (2 * index + 1) // (2 * _WINDOWS) for index in range(_WINDOWS)]
    # Every fourth first: should the bytes be used up, what was read is still spread.
    chunks, left = [], _MOST_BYTES
    for start in sorted(windows, key=lambda each: windows.index(each) % 4):
        if left > 0:
            chunks.append(tuple(_window(stored, start, _WINDOW_BYTES)))
            left -= sum(map(len, chunks[-1]))
    return Sample(tuple(chunks), whole_bytes=stored.size)


def sample_table(table: str, request_type: str, location: str | None, bigquery: bq.Client) -> Sample:
    """Read some rows of a table, the same ones each time, and the size of all: one query.

    :param table: ``project.dataset.table``
    :param request_type: of its column ``request``: ``JSON`` or ``STRING``
    """
    rows = list(bigquery.query(table_statement(table, request_type), location=location).result())
    if not rows:
        return Sample((), rows=0)
    lines = [b'{"request": ' + str(row["request"]).encode() + b"}" for row in rows]
    size = -(-len(lines) // _WINDOWS)
    chunks = tuple(tuple(lines[first : first + size]) for first in range(0, len(lines), size))
    around = len(b'{"request": }')
    whole = rows[0]["all_bytes"] + around * rows[0]["all_rows"]
    is_whole = rows[0]["all_rows"] == len(lines)
    return Sample(chunks, whole_bytes=None if is_whole else whole, rows=rows[0]["all_rows"])


def table_statement(table: str, request_type: str) -> str:
    """The query that reads some rows of a table."""
    text = "request" if request_type == "STRING" else "TO_JSON_STRING(request)"
    return render("cost/sample", table=f"`{table}`", request=text, limit=str(_TABLE_ROWS))


def _window(stored: StoredLines, start: int, size: int) -> Iterator[bytes]:
    """Yield the lines that begin in a window over the objects laid end to end, within one object."""
    for blob in stored.objects:
        length = int(blob.size or 0)
        if start < length:
            break
        start -= length
    # A line that begins right here ends the line before it.
    lines, at = lines_of(blob, _WINDOW_BYTES, max(start - 1, 0)), start
    if start:
        at += len(next(lines)) - 1
    for line in lines:
        if at >= start + size:
            return
        at += len(line)
        yield line
