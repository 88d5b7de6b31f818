"""Open the database again after DuckDB has closed it because of a fault of its own.

Transactions that run side by side sometimes meet a fault of DuckDB 1.4, after which it refuses every request.
Nothing that was committed is lost. Runs in the emulator's own environment and imports nothing from this
package.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from typing import Any

_REASON = "backendError"
_RELEASE_SECONDS = 60.0


def adapt() -> None:
    """Answer with an error that clients retry, and open the database again, in this process."""
    from local_bigquery.errors import STATUSES
    from local_bigquery.jobs import runner

    # Not `from local_bigquery import app`, which is the application.
    application: Any = importlib.import_module("local_bigquery.app")
    STATUSES[_REASON] = (503, "UNAVAILABLE")
    translate, lock = runner.from_exception, threading.Lock()

    def from_exception(error: Exception) -> Any:
        if not is_fatal(error):
            return translate(error)
        with lock:
            reopen(error)
        return _unavailable(error)

    runner.from_exception = application.from_exception = from_exception


def is_fatal(error: Exception) -> bool:
    """Whether DuckDB has closed the database, or another request has just opened it again."""
    import duckdb

    text = str(error)
    return (
        isinstance(error, duckdb.FatalException)
        or "database has been invalidated" in text
        or "Connection already closed" in text
        or "Unique file handle conflict" in text
    )


def reopen(error: Exception) -> None:
    """Open the database again, unless it works."""
    import duckdb
    from local_bigquery.engine import database

    try:
        database.fetch("SELECT count(*) FROM emulator.jobs")
    except duckdb.Error:
        print(f"The database has failed and is opened again: {error}", file=sys.stderr, flush=True)
        if database._connect.cache_info().currsize:
            closed = database._connect()
            database._connect.cache_clear()
            database._attached.clear()
            closed.close()
        _open_when_released()


def _open_when_released() -> None:
    """Open the database as soon as all other requests have met the fault, too, and have let go of it."""
    import duckdb
    from local_bigquery.engine import database

    until = time.monotonic() + _RELEASE_SECONDS
    while True:
        try:
            database.connection()
        except duckdb.BinderException:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def _unavailable(error: Exception) -> Any:
    from local_bigquery.errors import BigQueryError

    (first, *_) = str(error).splitlines()
    return BigQueryError(_REASON, f"The database of the BigQuery emulator was opened again: {first}")
