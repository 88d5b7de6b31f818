"""Report conflicts of transactions as BigQuery does, and avoid those that BigQuery does not have.

Runs in the emulator's own environment and imports nothing from this package.
"""

from __future__ import annotations

import re
import threading
from typing import Any

_DUCKDB = re.compile(
    r"(?P<name>Failed to commit DuckLake transaction|Transaction conflict|Conflict on update)"
)
# As reported by users of BigQuery, who see it with the name of the table and the ID of the transaction.
_BIGQUERY = "Transaction is aborted due to concurrent update against a table."


def adapt() -> None:
    """Replace the messages of conflicts in this process, and let load jobs begin one at a time."""
    from local_bigquery import errors
    from local_bigquery.jobs import load

    errors.DUCKDB_ERRORS.insert(0, (_DUCKDB, "invalidQuery", _BIGQUERY))
    lock, paths = threading.Lock(), load.paths

    def paths_alone(*args: Any) -> list[str]:
        # The first load creates DuckDB's access to Cloud Storage; two at the same time would conflict.
        with lock:
            found: list[str] = paths(*args)
            return found

    load.paths = paths_alone
