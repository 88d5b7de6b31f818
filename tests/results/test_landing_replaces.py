"""A job that resubmits failures of another job replaces their rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.results.retried import count_standing
from airflow_gemini_batch.results.row_status import RowStatus
from tests.results.lines import answered, asked, failed

if TYPE_CHECKING:
    from tests.results.conftest import Lander


@pytest.fixture
def first(lander: Lander) -> Lander:
    """A job with seven rows, two of them succeeded."""
    lander.put_input(
        *(asked(key) for key in ("good", "busy", "down", "refused", "lost", "twice")), asked("twice")
    )
    lander.put_output(
        answered("good"),
        failed("busy", 429, "RESOURCE_EXHAUSTED"),
        failed("down", 503, "UNAVAILABLE"),
        failed("refused", 400, "INVALID_ARGUMENT"),
        answered("twice"),
        failed("twice", 429, "RESOURCE_EXHAUSTED"),
    )
    lander.land()
    return lander


@pytest.fixture
def second(first: Lander) -> Lander:
    """The job that resubmits the retryable failures: one succeeds, one fails, one is missing."""
    again = replace(first, job_id="again")
    again.put_input(*(asked(key) for key in ("busy", "down", "lost", "twice")))
    again.put_output(answered("busy"), failed("down", 503, "UNAVAILABLE"), answered("twice"))
    return again


def table(lander: Lander) -> list[tuple[str, str, str]]:
    """Key, status and job of every row."""
    found = lander.query(f"SELECT key, status, job_name FROM {lander.destination.quoted}")
    return sorted((row["key"], row["status"], row["job_name"].rpartition("/")[2]) for row in found)


def errors(lander: Lander) -> list[tuple[str, str]]:
    found = lander.query(f"SELECT key, job_name FROM {lander.error_table.quoted}")
    return sorted((row["key"], row["job_name"].rpartition("/")[2]) for row in found)


def name(lander: Lander) -> str:
    return str(lander.job().name)


def expected(first: Lander, second: Lander) -> tuple[Any, Any]:
    one, two = first.job_id, second.job_id
    rows = [
        ("busy", "succeeded", two),
        ("down", "failed", two),
        ("good", "succeeded", one),
        ("lost", "missing", two),
        ("refused", "failed", one),
        ("twice", "succeeded", one),
        ("twice", "succeeded", two),
    ]
    return sorted(rows), [("down", two), ("lost", two), ("refused", one)]


def test_only_resubmitted_rows_are_replaced(first: Lander, second: Lander) -> None:
    """Two rows of the first input have the key ``twice``; the one that succeeded stays."""
    manifest = second.land(replaces=(name(first),))
    assert (table(second), errors(second)) == expected(first, second)
    assert manifest.rows == 4


def test_without_replaces_rows_of_other_jobs_stay(first: Lander, second: Lander) -> None:
    before = table(first)
    second.land()
    assert set(before) < set(table(second))
    assert len(table(second)) == 11


def test_it_is_idempotent(first: Lander, second: Lander) -> None:
    landed = second.land(replaces=(name(first),))
    assert second.land(replaces=(name(first),)) == landed


def test_failures_that_come_back_are_replaced_again(first: Lander, second: Lander) -> None:
    """The first landing runs again, for example because a user cleared its task."""
    landed = second.land(replaces=(name(first),))
    first.land()
    assert len(table(second)) == 11
    assert second.land(replaces=(name(first),)).landed_at > landed.landed_at
    assert (table(second), errors(second)) == expected(first, second)


def standing(lander: Lander, *jobs: str) -> dict[RowStatus, int]:
    found = count_standing(lander.destination, jobs, lander.bigquery)
    return {status: count for status, count in found.items() if count}


def test_statuses_are_counted_over_the_first_input(first: Lander, second: Lander) -> None:
    good, bad, lost = RowStatus.SUCCEEDED, RowStatus.FAILED, RowStatus.MISSING
    assert standing(first, name(first)) == {good: 2, bad: 4, lost: 1}
    second.land(replaces=(name(first),))
    assert standing(first, name(first), name(second)) == {good: 4, bad: 2, lost: 1}
    # In the whole table each key counts once: ``twice`` by the row landed last.
    assert standing(first) == {good: 3, bad: 2, lost: 1}


def test_of_rows_with_the_same_key_the_newest_counts(first: Lander, second: Lander) -> None:
    """Nothing was replaced: the resubmitted failures are still in the table."""
    second.land()
    assert len(table(second)) == 11
    assert standing(first) == {RowStatus.SUCCEEDED: 3, RowStatus.FAILED: 2, RowStatus.MISSING: 1}
