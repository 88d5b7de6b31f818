"""Make the BigQuery emulator load files of raw lines as BigQuery does, and refuse lines of more than 100 MB.

Runs in the emulator's own environment and imports nothing from this package.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import files as copies

_PARALLEL_READS = 4
_MAX_LINE_BYTES = 100 * 1024**2
_skipped: ContextVar[tuple[str, ...]] = ContextVar("skipped", default=())
"""Messages about the lines that the load job of this context has skipped."""


def adapt() -> None:
    """Replace the loader for single-column CSV without quotes in this process.

    Unchanged, the emulator rejects files that BigQuery loads: those with bytes that are not UTF-8 (BigQuery
    loads U+FFFD) and those where only some lines end in a carriage return.
    """
    from local_bigquery.jobs import load, runner

    read, run, done = load._reader, load.run, runner._done

    def reader(cur: Any, files: str, config: Any, fields: list[Any]) -> str:
        if config.sourceFormat != "CSV" or config.quote != "" or len(fields) != 1:
            return str(read(cur, files, config, fields))
        names = [name for (name,) in cur.sql(f"SELECT unnest({files})").fetchall()]
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            read_files = list(
                pool.map(lambda name: of_file(name, fields[0].name, config.fieldDelimiter), names)
            )
        messages = tuple(each for _, skipped in read_files for each in skipped)
        if len(messages) > (config.maxBadRecords or 0):
            raise ValueError(messages[0].removeprefix(_PREFIX))
        _skipped.set(messages)
        cur.register("_load_source", load.pa.concat_tables([table for table, _ in read_files]))
        return "_load_source"

    def run_and_count(cur: Any, config: Any, upload: str | None) -> Any:
        _skipped.set(())
        statistics = run(cur, config, upload)
        return statistics.replace(badRecords=str(len(_skipped.get()))) if _skipped.get() else statistics

    def done_with_errors(job: Any, *rest: Any) -> Any:
        finished, messages = done(job, *rest), _skipped.get()
        if not messages or not job.configuration.load or finished.status.errorResult:
            return finished
        errors = [{"reason": "invalid", "message": message} for message in messages]
        return finished.replace(status=finished.status.replace(errors=errors))

    load._reader, load.run, runner._done = reader, run_and_count, done_with_errors


_PREFIX = "Error while reading data, error message: "


def of_file(path: str, column: str, delimiter: str) -> tuple[Any, list[str]]:
    """Return the lines of a file, and messages about those that are too large."""
    content, skipped = Path(path).read_bytes(), []
    start = 0
    # Only a file of more than the limit can have a line of more.
    while len(content) - start > _MAX_LINE_BYTES:
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        if end - start > _MAX_LINE_BYTES:
            message = f"CSV parsing error in row starting at position {start}: Row size is larger than: "
            place = f"{_MAX_LINE_BYTES}. File: {copies.uri_of(path)}"
            skipped.append((start, end, _PREFIX + message + place))
        start = end + 1
    for first, last, _ in reversed(skipped):
        content = content[:first] + content[last + 1 :]
    return _table_of_lines(content, column, delimiter), [message for _, _, message in skipped]


def _table_of_lines(content: bytes, column: str, delimiter: str) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    if b"\r" in content or delimiter.encode() in content:
        return _irregular_lines(content, column, delimiter)
    try:
        return csv.read_csv(
            pa.BufferReader(content),
            csv.ReadOptions(column_names=[column], block_size=1 << 24),
            csv.ParseOptions(delimiter=delimiter, quote_char=False, double_quote=False),
            csv.ConvertOptions(column_types={column: pa.string()}, strings_can_be_null=False),
        )
    except pa.ArrowInvalid:  # No lines, text that is not UTF-8, or a line longer than a block.
        return _irregular_lines(content, column, delimiter)


def _irregular_lines(content: bytes, column: str, delimiter: str) -> Any:
    import pyarrow as pa

    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    lines = [line.split(delimiter, 1)[0] for line in text.split("\n") if line]
    return pa.table({column: pa.array(lines, pa.string())})
