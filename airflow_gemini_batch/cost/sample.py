"""Representative samples of an input of any size, read within about a second."""

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
"""Smaller inputs are read completely."""

_WINDOWS = 64
_WINDOW_BYTES = 128 * 1024
# Lines may be long: base64 images make lines of up to 9 MB.
_MAX_BYTES = 64 * 1024 * 1024
_TABLE_ROWS = 640


@dataclass(frozen=True)
class Sample:
    """Lines of an input, in chunks that each represent a part of it.

    :param whole_bytes: bytes of the whole input; ``None`` when the chunks are the whole input
    :param rows: rows of the whole input, if known
    :param is_output: whether it is known to be the output of an earlier job
    """

    chunks: Iterable[Iterable[bytes]]
    whole_bytes: int | None = None
    rows: int | None = None
    is_output: bool = False


def sample_objects(uris: Sequence[str], storage: Client) -> Sample:
    """Read the lines that begin in windows spread evenly over the input.

    :param uris: ``gs://…``, which may have wildcards
    :raises InvalidParameterError: a URI matches no object
    """
    stored = StoredLines.find(uris, storage)
    if stored.size <= WHOLE_BYTES:
        return Sample((tuple(stored.read(lambda _: None)),))
    windows = [stored.size * (2 * index + 1) // (2 * _WINDOWS) for index in range(_WINDOWS)]
    # Read every fourth window first: if the byte limit is reached, the sample is still spread out.
    chunks, left = [], _MAX_BYTES
    for start in sorted(windows, key=lambda each: windows.index(each) % 4):
        if left > 0:
            chunks.append(tuple(_window(stored, start, _WINDOW_BYTES)))
            left -= sum(map(len, chunks[-1]))
    return Sample(tuple(chunks), whole_bytes=stored.size)


def sample_table(table: str, request_type: str, location: str | None, bigquery: bq.Client) -> Sample:
    """Read some rows of a table, the same rows each time, and its total size, with one query.

    :param table: ``project.dataset.table``
    :param request_type: type of the column ``request``: ``JSON`` or ``STRING``
    """
    rows = list(bigquery.query(table_statement(table, request_type), location=location).result())
    if not rows:
        return Sample((), rows=0)
    lines = [b'{"request": ' + str(row["request"]).encode() + b"}" for row in rows]
    size = -(-len(lines) // _WINDOWS)
    chunks = tuple(tuple(lines[first : first + size]) for first in range(0, len(lines), size))
    wrapper = len(b'{"request": }')
    whole = rows[0]["all_bytes"] + wrapper * rows[0]["all_rows"]
    is_whole = rows[0]["all_rows"] == len(lines)
    return Sample(chunks, whole_bytes=None if is_whole else whole, rows=rows[0]["all_rows"])


def table_statement(table: str, request_type: str) -> str:
    """Return the query that reads some rows of a table."""
    return render("cost/sample", table=table, request_type=request_type, limit=_TABLE_ROWS)


def _window(stored: StoredLines, start: int, size: int) -> Iterator[bytes]:
    """Yield the lines that begin in a window of the concatenated objects, in its first object."""
    for blob in stored.objects:
        length = int(blob.size or 0)
        if start < length:
            break
        start -= length
    # Start one byte early: a line begins at ``start`` only if the byte before it is a newline.
    lines, at = lines_of(blob, _WINDOW_BYTES, max(start - 1, 0)), start
    if start:
        at += len(next(lines)) - 1
    for line in lines:
        if at >= start + size:
            return
        at += len(line)
        yield line
