"""The measure itself finds what it must find."""

from __future__ import annotations

from typing import Any

from .measure import ASKED_BY, INSTALLATION, charges, gone, made_again, meddled, overpaid, wrong_rows


def job(name: str, state: str, rows: int | None, by: str = "run", installation: str = "") -> dict[str, Any]:
    stats = {} if rows is None else {"completionStats": {"successfulCount": str(rows)}}
    labels = {ASKED_BY: by, INSTALLATION: installation}
    return {"name": name, "state": f"JOB_STATE_{state}", "labels": labels, **stats}


def test_every_job_counts_whatever_its_state() -> None:
    bill = charges([job("a/1", "EXPIRED", 9), job("a/2", "SUCCEEDED", 10)])
    assert overpaid(bill, {"run": 10}) == [
        "19 rows charged for 10 of run: 9 of 1 (EXPIRED) + 10 of 2 (SUCCEEDED)"
    ]
    assert overpaid(bill, {"run": 20}) == []


def test_completed_rows_count_even_if_the_job_does_not_say() -> None:
    jobs = [job("a/1", "FAILED", None)]
    assert overpaid(charges(jobs), {}) == []
    assert len(overpaid(charges(jobs, {"a/1": 3}), {"run": 2})) == 1


def test_a_job_that_nobody_asked_for_is_overpaid() -> None:
    assert overpaid(charges([job("a/1", "SUCCEEDED", 1, by="other")]), {"run": 5}) != []


def test_a_job_that_is_made_again_after_a_person_cancelled_it() -> None:
    before = charges([job("a/1", "CANCELLING", None), job("a/2", "RUNNING", None, by="other")])
    after = charges(
        [job("a/1", "CANCELLED", 0), job("a/3", "RUNNING", None), job("a/4", "RUNNING", 1, "other")]
    )
    assert len(made_again(before, after, ["a/1"])) == 1
    assert made_again(before, after, []) == []


def test_the_job_of_another_installation() -> None:
    bill = charges([job("a/1", "RUNNING", 0, installation="prod")])
    assert meddled(bill, {"dev": ["a/1"]}, "cancelled") == ["dev has cancelled 1, a job of prod"]
    assert meddled(bill, {"prod": ["a/1"]}, "cancelled") == []


def test_rows_that_are_lost_doubled_or_of_no_request() -> None:
    assert wrong_rows(["a", "b"], ["b", "a"]) == []
    assert len(wrong_rows(["a", "a", "b"], ["a", "b"])) == 1
    assert wrong_rows(["a"], ["a", "b", "b"]) == ["not in the table: 'b', 'b'"]
    assert len(wrong_rows(["a", "z"], ["a"])) == 1


def test_an_answer_that_is_gone() -> None:
    assert gone([("a", "yes"), ("b", "no")], [("a", "yes")]) == ["the answer to 'b' is gone"]
    assert gone([("a", "yes")], [("a", "yes"), ("b", "no")]) == []
