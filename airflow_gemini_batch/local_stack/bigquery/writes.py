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
# Each job has a table of its own for the rows of its query, which no look-up remembers.
_RESULTS = re.compile(r'CREATE OR REPLACE TABLE "emulator"\."_results"')
_own_lock, _user_lock = threading.RLock(), threading.RLock()
# What these change is seen only by the session that executes them.
_PRIVATE = re.compile(r"\s*(SET|USE|CREATE\s+(OR\s+REPLACE\s+)?TEMP)", re.IGNORECASE)
_BEGIN = re.compile(r"\s*BEGIN\b", re.IGNORECASE)
_END = re.compile(r"\s*(COMMIT|ROLLBACK|ABORT)\b", re.IGNORECASE)
_ROWS_ONLY = re.compile(r"\s*(INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
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
    """Return how often the columns of any table of a user may have changed."""
    return _counts["columns"]


def _place(query: str) -> str:
    if _RESULTS.match(query):
        return "results"
    own = _OWN.search(query)
    return own[1] if own else "users"


class _Connection:
    """A connection of DuckDB whose statements wait for those of other threads."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_in_transaction = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self) -> _Connection:
        return _Connection(self._connection.cursor())

    def execute(self, query: str, parameters: Any = None) -> Any:
        if _READS.match(query):
            return self._connection.execute(query, parameters)
        place = _place(query)
        with _user_lock if place in ("users", "results") else _own_lock:
            try:
                return self._connection.execute(query, parameters)
            finally:
                self._count(place, query)

    def _count(self, place: str, query: str) -> None:
        if _BEGIN.match(query):
            self._is_in_transaction = True
        elif _END.match(query):
            self._is_in_transaction = False
        # Look-ups use connections of their own, which see nothing of a transaction before its end.
        if self._is_in_transaction or _PRIVATE.match(query):
            return
        _counts[place] += 1
        if place == "users" and not _ROWS_ONLY.match(query):
            _counts["columns"] += 1
