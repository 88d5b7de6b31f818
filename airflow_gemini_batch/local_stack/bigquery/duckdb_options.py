"""Set DuckDB options: for landings of hundreds of MB, and for right answers. SQL is not changed.

Runs in the emulator's own environment and imports nothing from this package.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

_GROUP_ROWS = "8192"


class _NoPandas:
    """Says at once that pandas is not installed: DuckDB looks for it with each statement with parameters."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=name)


def adapt(threads: int | None) -> None:
    """Set the options in this process; call it before DuckDB is opened.

    :param threads: how many threads execute a statement; None for one per core
    """
    from local_bigquery.engine import database

    sys.meta_path.insert(0, _NoPandas)
    connect, attach = database._connect.__wrapped__, database._attach

    @functools.cache
    def connect_with_options() -> Any:
        connection = connect()
        # By default DuckDB copies its log into the database file after every 16 MB, during the landing.
        connection.execute("SET checkpoint_threshold = '2GB'")
        # It filters each step of a recursive query by what the first step has joined, and rows are lost.
        connection.execute("SET disabled_optimizers = 'join_filter_pushdown'")
        if threads:
            connection.execute(f"SET threads = {threads}")
        return connection

    def attach_with_small_groups(connection: Any, project: str) -> None:
        attach(connection, project)
        # A writer buffers a whole row group: the default, 122,880 rows of 2 KB, would be 250 MB per writer.
        connection.execute(
            "CALL ducklake_set_option($1, 'parquet_row_group_size', $2)", [project, _GROUP_ROWS]
        )

    database._connect, database._attach = connect_with_options, attach_with_small_groups
