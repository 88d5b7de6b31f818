"""A job that was asked the failures of another again takes the place of their rows."""

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
    """A job of seven rows, of which two succeeded."""
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
    """The job that was asked again what may succeed: one succeeds, one fails, one is lost."""
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


def test_only_rows_that_were_asked_again_are_replaced(first: Lander, second: Lander) -> None:
    """The key ``twice`` stands for two rows of the first input; the one that succeeded stays."""
    manifest = second.land(replaces=(name(first),))
    assert (table(second), errors(second)) == expected(first, second)
    assert manifest.rows == 4


def test_without_that_rows_of_other_jobs_stay(first: Lander, second: Lander) -> None:
    before = table(first)
    second.land()
    assert set(before) < set(table(second))
    assert len(table(second)) == 11


def test_it_lands_once(first: Lander, second: Lander) -> None:
    landed = second.land(replaces=(name(first),))
    assert second.land(replaces=(name(first),)) == landed


def test_failures_that_come_back_are_replaced_again(first: Lander, second: Lander) -> None:
    """The first landing runs again, say because a user cleared its task."""
    landed = second.land(replaces=(name(first),))
    first.land()
    assert len(table(second)) == 11
    assert second.land(replaces=(name(first),)).landed_at > landed.landed_at
    assert (table(second), errors(second)) == expected(first, second)


def test_a_landing_in_the_middle_of_the_chain_is_found_as_it_was(first: Lander, second: Lander) -> None:
    landed = second.land(replaces=(name(first),))
    third = replace(first, job_id="third")
    third.put_input(asked("down"), asked("lost"))
    third.put_output(answered("down"), failed("lost", 503, "UNAVAILABLE"))
    third.land(replaces=(name(first), name(second)))
    after = table(third)
    assert ("down", "succeeded", "third") in after
    assert ("lost", "failed", "third") in after
    assert second.land(replaces=(name(first),), replaced_by=(name(third),)) == landed
    assert table(third) == after


def standing(lander: Lander, *jobs: str) -> dict[RowStatus, int]:
    found = count_standing(lander.destination, jobs, lander.bigquery)
    return {bucket: count for bucket, count in found.items() if count}


def test_how_rows_stand_is_counted_over_what_was_asked_first(first: Lander, second: Lander) -> None:
    good, bad, lost = RowStatus.SUCCEEDED, RowStatus.FAILED, RowStatus.MISSING
    assert standing(first, name(first)) == {good: 2, bad: 4, lost: 1}
    second.land(replaces=(name(first),))
    assert standing(first, name(first), name(second)) == {good: 4, bad: 2, lost: 1}
    # Of a whole table a key counts once: ``twice`` by the row that was landed last.
    assert standing(first) == {good: 3, bad: 2, lost: 1}


def test_of_several_jobs_rows_of_a_key_the_newest_counts(first: Lander, second: Lander) -> None:
    """Nothing was replaced: the failures that were asked again are in the table still."""
    second.land()
    assert len(table(second)) == 11
    assert standing(first) == {RowStatus.SUCCEEDED: 3, RowStatus.FAILED: 2, RowStatus.MISSING: 1}
