"""What the log says of rows that did not succeed."""

from __future__ import annotations

import pytest

from airflow_gemini_batch.results.failures import warnings
from airflow_gemini_batch.results.report.facts import ErrorKind
from airflow_gemini_batch.results.row_status import RowStatus

TABLE = "p.d.answers_errors"


def counts(**rows: int) -> dict[RowStatus, int]:
    return {status: rows.get(status.value, 0) for status in RowStatus}


def kind(status: str, code: int | None, name: str | None, rows: int, message: str = "") -> ErrorKind:
    return ErrorKind(status, code, name, message, rows, 0, ())


BUSY = kind("failed", 429, "RESOURCE_EXHAUSTED", 9)
UNSAFE = kind("blocked", None, "SAFETY", 3)


def test_rows_that_succeeded_are_no_warning() -> None:
    assert warnings(counts(succeeded=3), (), TABLE) == []


def test_errors_are_counted_by_code_and_reason() -> None:
    found = (BUSY, UNSAFE, kind("failed", 429, "RESOURCE_EXHAUSTED", 1, "Quota exceeded"))
    assert warnings(counts(succeeded=288, failed=10, blocked=3), found, TABLE) == [
        "13 of 301 rows did not succeed: 10 × 429 RESOURCE_EXHAUSTED, 3 × blocked SAFETY",
        "Errors: p.d.answers_errors",
    ]


def test_without_the_errors_rows_are_counted_by_status() -> None:
    (first, _) = warnings(counts(failed=9, missing=2), (), TABLE)
    assert first == "11 of 11 rows did not succeed: 9 × failed, 2 × missing"


def test_rows_of_kinds_that_were_not_read_are_counted() -> None:
    (first, _) = warnings(counts(succeeded=1, failed=19, blocked=3), (BUSY, UNSAFE), TABLE)
    assert first.endswith("9 × 429 RESOURCE_EXHAUSTED, 3 × blocked SAFETY, 10 × other")


def test_many_kinds_fit_a_line() -> None:
    found = tuple(kind("failed", 500 + number, "A_NAME_OF_SOME_LENGTH", 12_345) for number in range(12))
    (first, _) = warnings(counts(succeeded=1_000_000, failed=12 * 12_345), found, TABLE)
    assert len(first) <= 110
    assert first.endswith(" × other")


@pytest.mark.parametrize("name", ["Sorry, I cannot write about zebras", "zebra\x1b[2J", "zebra" * 20])
def test_text_is_no_name_of_an_error(name: str) -> None:
    found = (kind("failed", None, name, 1, "zebra"),)
    assert warnings(counts(failed=1), found, TABLE)[0] == "1 of 1 row did not succeed: 1 × failed"
