"""Make the BigQuery emulator load files of raw lines as BigQuery does.

Runs in the emulator's own environment and imports nothing from this package.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_PARALLEL_READS = 4


def adapt() -> None:
    """Replace the loader for single-column CSV without quotes in this process.

    Unchanged, the emulator rejects files that BigQuery loads: those with bytes that are not UTF-8 (BigQuery
    loads U+FFFD) and those where only some lines end in a carriage return.
    """
    from local_bigquery.jobs import load

    read = load._reader

    def reader(cur: Any, files: str, config: Any, fields: list[Any]) -> str:
        if config.sourceFormat != "CSV" or config.quote != "" or len(fields) != 1:
            return str(read(cur, files, config, fields))
        names = [name for (name,) in cur.sql(f"SELECT unnest({files})").fetchall()]
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            texts = list(pool.map(lambda name: _lines_of(name, fields[0].name, config.fieldDelimiter), names))
        cur.register("_load_source", load.pa.concat_tables(texts))
        return "_load_source"

    load._reader = reader


def _lines_of(path: str, column: str, delimiter: str) -> Any:
    return _table_of_lines(Path(path).read_bytes(), column, delimiter)


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
