"""What a landing bills, from what its statements read and change. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.requests.in_bigquery.claims import COLUMNS as CLAIM_COLUMNS
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS
from tests.scaling.model import Assumptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.billing.reads import Statement

SIZES = (10 * 10**9, 10**12, 100 * 10**12)
"""Bytes of the results table."""
DAYS = 365
"""Partitions of the results table, if it has at least a job for each."""
JOB_ROWS = 200_000
FAILED = 0.01
"""Share of the rows that did not succeed."""
SINCE_DAYS = {"since": 3, "failed_since": 2, "=landed_at": 1}
"""How many partitions a bound leaves, for a job that is landed a day after it was created, and a day after
the failures that it resubmits were landed. Clocks are given another day, and today counts."""

WIDTHS = {
    "key": 20,
    "text": 400,
    "output": 400,
    "request": 1_500,
    "response": 2_200,
    "usage_metadata": 150,
    "model_version": 20,
    "job_name": 90,
    "run_id": 40,
    "source_uri": 60,
    "error_message": 100,
    "raw_line": 0,
    "embedding": 0,
    "canonical": 0,
    "misfit": 0,
    "digest": 0,
    "labeled_fingerprint": 0,
    "source": 1_500,
    "response_id": 38,
    "request_id": 38,
    "name": 20,
    "results_table": 40,
    "failed_job": 90,
    "request_fingerprint": 18,
    "fingerprint": 18,
    "request_digest": 66,
}
"""Bytes of a value, by column, also in temporary tables. Others have those of their type."""
TYPE_WIDTHS = {"INT64": 8, "FLOAT64": 8, "TIMESTAMP": 8, "BOOL": 1, "NUMERIC": 16, "STRING": 12, "JSON": 40}
OUTPUT_LINE = 4_000
INPUT_LINE = 1_550

_TYPES = {column.name: column.type for column in (*RESULT_COLUMNS, *ERROR_COLUMNS)}
_TYPES |= {name: {"INTEGER": "INT64"}.get(kind, kind) for name, kind, _ in CLAIM_COLUMNS}


def width(column: str) -> int:
    """Return the bytes of a value of a column."""
    return WIDTHS.get(column, TYPE_WIDTHS[_TYPES.get(column, "INT64")])


ROW = sum(width(column.name) for column in RESULT_COLUMNS)
"""Bytes of a row of the results table."""
ERROR_ROW = sum(width(column.name) for column in ERROR_COLUMNS)
CLAIM_ROW = sum(width(name) for name, _, _ in CLAIM_COLUMNS)


@dataclass(frozen=True)
class Tables:
    """The names by which statements name the tables that are told apart.

    :param job: bytes per row of the job's tables, by name
    """

    results: str
    errors: str
    claims: str
    job: Mapping[str, int]


@dataclass(frozen=True)
class Bill:
    """What a landing bills, as the coefficients of a formula; see :meth:`size`.

    :param own: bytes of staging and temporary tables, which have the job's rows
    :param row_bytes: bytes of a row of the results table that are read, by the days that are read: those of
        :data:`SINCE_DAYS`, or 0 for all days. Reads of the error table are in it, by their share
    :param whole_days: how many partitions are billed as a whole; of the error table, by its share
    :param statements: how many name a table: each is a job in BigQuery
    """

    own: int
    row_bytes: Mapping[int, float]
    whole_days: float
    statements: int

    def size(self, table: int) -> float:
        """Return the bytes that are billed if the results table has so many bytes."""
        rows, days = table / ROW, days_of(table)
        read = sum(
            value * (min(number, days) / days if number else 1) for number, value in self.row_bytes.items()
        )
        return self.own + read * rows + self.whole_days * table / days

    def dollars(self, table: int) -> float:
        """Return the price on demand."""
        return self.size(table) / 2**40 * Assumptions().bigquery_price


def days_of(table: int) -> int:
    """Return the number of partitions of a results table: a day has at least one job."""
    return max(1, min(DAYS, table // (JOB_ROWS * ROW)))


def bill(statements: Iterable[Statement], tables: Tables, *, changed_days: int) -> Bill:
    """Add up what statements bill.

    :param changed_days: in how many partitions a statement that changes or deletes rows finds some
    """
    own, whole, jobs = 0, 0.0, 0
    row_bytes: dict[int, float] = {}
    made: dict[str, int] = {}
    shares = {tables.results: 1.0, tables.errors: FAILED, tables.claims: FAILED}
    for statement in statements:
        jobs += statement.is_job
        if statement.creates:
            made[statement.target] = sum(map(width, statement.creates))
        for read in statement.reads:
            if read.table in shares:
                days = SINCE_DAYS[read.since] if read.since else 0
                row_bytes[days] = row_bytes.get(days, 0) + shares[read.table] * sum(map(width, read.columns))
            elif read.table in tables.job:
                own += JOB_ROWS * tables.job[read.table]
            elif read.table in made:
                own += JOB_ROWS * sum(map(width, read.columns))
        if not statement.changes_rows:
            continue
        if statement.target == tables.claims:
            # It has no partitions, so all of it is billed.
            row_bytes[0] = row_bytes.get(0, 0) + FAILED * CLAIM_ROW
        elif statement.target in shares:
            whole += changed_days * (1 if statement.target == tables.results else FAILED * ERROR_ROW / ROW)
        else:
            own += JOB_ROWS * made.get(statement.target, 0)
    return Bill(own, row_bytes, whole, jobs)
