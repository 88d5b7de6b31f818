"""Report conflicts of transactions as BigQuery does.

Runs in the emulator's own environment and imports nothing from this package.
"""

from __future__ import annotations

import re

_DUCKDB = re.compile(
    r"(?P<name>Failed to commit DuckLake transaction|Transaction conflict|Conflict on update)"
)
# As reported by users of BigQuery, who see it with the name of the table and the ID of the transaction.
_BIGQUERY = "Transaction is aborted due to concurrent update against a table."


def adapt() -> None:
    """Replace the messages of conflicts in this process."""
    from local_bigquery import errors

    errors.DUCKDB_ERRORS.insert(0, (_DUCKDB, "invalidQuery", _BIGQUERY))
