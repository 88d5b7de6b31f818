"""Let one statement write at a time.

DuckDB 1.4 closes a database in which two transactions write the same columns at the same moment: `Unaligned
fetch in validity and main column data for update <https://github.com/duckdb/duckdb/issues/19688>`_. DuckLake
keeps all tables of a project in a few tables of such a database, so two statements on different tables meet
there, too. Transactions still run side by side, and conflict with each other as in BigQuery.

Runs in the emulator's own environment and imports nothing from this package.
"""

from __future__ import annotations

import functools
import re
import threading
from collections import Counter
from typing import Any

_READS = re.compile(r"\s*(SELECT|WITH|EXPLAIN|DESCRIBE)\b", re.IGNORECASE)
# The emulator's own tables are in another database than users' tables: a job's state can be saved while a
# statement of minutes runs.
_OWN = re.compile(r"\semulator\.(?!_results)(\w+)")
_own_lock, _user_lock = threading.RLock(), threading.RLock()
# What these change is seen only by the session that executes them.
_PRIVATE = re.compile(r"\s*(BEGIN|SET|USE|CREATE\s+(OR\s+REPLACE\s+)?TEMP)", re.IGNORECASE)
_counts: Counter[str] = Counter()


def adapt() -> None:
    """Wrap the connection in this process; call it before DuckDB is opened."""
    from local_bigquery.engine import database

    connect = database._connect.__wrapped__
    database._connect = functools.cache(lambda: _Connection(connect()))


def count_of(query: str) -> int:
    """Return how often what this query reads has been written."""
    return _counts[_place(query)]


def count_of_tables() -> int:
    """Return how often any table of a user has been written."""
    return _counts["users"]


def _place(query: str) -> str:
    own = _OWN.search(query)
    return own[1] if own else "users"


class _Connection:
    """A connection of DuckDB whose statements wait for those of other threads."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self) -> _Connection:
        return _Connection(self._connection.cursor())

    def execute(self, query: str, parameters: Any = None) -> Any:
        if _READS.match(query):
            return self._connection.execute(query, parameters)
        place = _place(query)
        with _user_lock if place == "users" else _own_lock:
            try:
                return self._connection.execute(query, parameters)
            finally:
                if not _PRIVATE.match(query):
                    _counts[place] += 1
