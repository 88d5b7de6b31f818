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
import time
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
_TARGET = re.compile(
    r"\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?)\s+((?:\"(?:[^\"]|\"\")+\"\.?)+)",
    re.IGNORECASE,
)
_counts: Counter[str] = Counter()
_written_at: dict[str, int] = {}
"""When the rows of a table were last changed, in milliseconds, by its quoted name."""


def adapt() -> None:
    """Wrap the connection in this process; call it before DuckDB is opened."""
    from local_bigquery.engine import database

    connect = database._connect.__wrapped__
    database._connect = functools.cache(lambda: _Connection(connect()))
    _show_times()


def _show_times() -> None:
    """Show when the rows of a table were last changed, as BigQuery does; the emulator shows other changes."""
    from local_bigquery.catalog import tables
    from local_bigquery.engine.database import quote

    load = tables.load

    def load_with_time(project_id: str, dataset_id: str, table_id: str) -> Any:
        table = load(project_id, dataset_id, table_id)
        written = _written_at.get(quote(project_id, dataset_id, table_id), 0)
        return table.replace(lastModifiedTime=str(max(written, int(table.lastModifiedTime or 0))))

    tables.load = load_with_time


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
        self._written: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self) -> _Connection:
        return _Connection(self._connection.cursor())

    def execute(self, query: str, parameters: Any = None) -> Any:
        if _READS.match(query):
            return self._connection.execute(query, parameters)
        place = _place(query)
        with _user_lock if place in ("users", "results") else _own_lock:
            is_done = False
            try:
                result = self._connection.execute(query, parameters)
                is_done = True
                return result
            finally:
                self._note(place, query, is_done=is_done)

    def _note(self, place: str, query: str, *, is_done: bool) -> None:
        """Note that something was written, when others can see it."""
        if target := _TARGET.match(query):
            self._written |= {target[1]} if is_done and place == "users" else set()
        elif _BEGIN.match(query):
            self._is_in_transaction = True
        elif end := _END.match(query):
            self._is_in_transaction = False
            if not (is_done and end[1].upper() == "COMMIT"):
                self._written.clear()
        # Look-ups use connections of their own, which see nothing of a transaction before its end.
        if self._is_in_transaction or _PRIVATE.match(query):
            return
        _written_at.update(dict.fromkeys(self._written, time.time_ns() // 1_000_000))
        self._written.clear()
        _counts[place] += 1
        if place == "users" and not _ROWS_ONLY.match(query):
            _counts["columns"] += 1
