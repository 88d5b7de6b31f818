"""Let queries of the BigQuery emulator read objects of Cloud Storage: tables that the query itself defines.

Only files of raw lines, as landing reads them. Runs in the emulator's own environment and imports nothing
from this package.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Modules in the same folder: the launcher runs as a script.
import files
import lines

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE_NAME = "_FILE_NAME"
_MAX_URIS = 10_000


def adapt() -> None:
    """Replace the execution of queries in this process; call it after ``files.adapt``."""
    from local_bigquery.jobs import query

    execute = query.execute

    def execute_with_tables(cursor: Any, project: str, job_id: str | None, config: Any, **more: Any) -> Any:
        for name, definition in (config.tableDefinitions or {}).items():
            _define(cursor, name, definition)
        return execute(cursor, project, job_id, config, **more)

    query.execute = execute_with_tables


def _define(cursor: Any, name: str, definition: Any) -> None:
    """Make a temporary table of the lines, with the pseudocolumn that names each line's object."""
    import pyarrow as pa
    from local_bigquery.engine.database import quote

    options, fields = definition.csvOptions, definition.schema_.fields if definition.schema_ else []
    if definition.sourceFormat != "CSV" or not options or options.quote != "" or len(fields) != 1:
        raise files.invalid("The emulator reads external tables only of CSV without quotes with one column")
    uris = definition.sourceUris or []
    if not 0 < len(uris) <= _MAX_URIS:
        raise files.invalid(f"A table must have from 1 to {_MAX_URIS} URIs, not {len(uris)}")

    # BigQuery names the object also if the URI has a wildcard. A copy does not tell which it was.
    if any("*" in uri for uri in uris):
        raise files.invalid("The emulator reads no external tables with wildcards")

    def tables(folder: Path) -> Iterator[Any]:
        for number, uri in enumerate(uris):
            for path in files.copy(uri, folder / str(number)):
                found, too_large = lines.of_file(path, fields[0].name, options.fieldDelimiter or ",")
                if too_large:
                    raise files.invalid(too_large[0])
                yield found.append_column(_FILE_NAME, pa.array([uri] * len(found), pa.string()))

    with tempfile.TemporaryDirectory() as folder:
        cursor.register("_external", pa.concat_tables(list(tables(Path(folder)))))
        cursor.execute(f"CREATE TEMP TABLE {quote(name)} AS SELECT * FROM _external")  # noqa: S608
        cursor.unregister("_external")
