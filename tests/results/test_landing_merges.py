"""``write_mode="merge"``: each key has one row across all jobs. Also: options that leave columns empty."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.results.landing import WriteMode
from tests.results.lines import answered, asked, failed, request, response

if TYPE_CHECKING:
    from tests.results.conftest import Lander

LATER = "2026-11-02T00:00:00+00:00"


def merge(lander: Lander, job_id: str, *lines: str, **more: Any) -> None:
    """Land these output lines as those of a job with the keys a, b and c."""
    job = replace(lander, job_id=f"{job_id}-{lander.job_id}")
    job.put_input(*(asked(key) for key in "abc"))
    job.put_output(*lines)
    job.land(write_mode=WriteMode.MERGE, **more)


def texts(lander: Lander) -> dict[str | None, tuple[str, str | None]]:
    return {key: (row["status"], row["text"]) for key, row in lander.rows().items()}


def busy(key: str) -> str:
    return failed(key, 429, "RESOURCE_EXHAUSTED")


def test_a_key_keeps_its_newest_success(lander: Lander) -> None:
    first = (answered("a", "1"), answered("b", "1"), busy("c"))
    merge(lander, "one", *first)
    assert set(lander.errors()) == {"c"}
    second = (answered("a", "2", processed_time=LATER), busy("b"), answered("c", "2", processed_time=LATER))
    merge(lander, "two", *second)
    merged = {"a": ("succeeded", "2"), "b": ("succeeded", "1"), "c": ("succeeded", "2")}
    assert texts(lander) == merged
    assert lander.errors() == {}  # c succeeded later, and b had succeeded before.
    # Landing again changes nothing, and neither does landing the older job again.
    merge(lander, "two", *second)
    merge(lander, "one", *first)
    assert texts(lander) == merged
    assert lander.errors() == {}


def test_output_without_times_uses_the_end_of_its_job(lander: Lander) -> None:
    """In any order and any number of landings: the job that ended later has the later response."""
    kinds = {"key": "STRING", "request": "JSON", "response": "JSON", "status": "STRING"}
    busy_now = 'Too Many Requests: {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}'
    ended = {"older": 1, "newer": 2}

    def land(job_id: str) -> None:
        jobs[job_id].land(
            write_mode=WriteMode.MERGE,
            job=jobs[job_id].job(
                output_location=places[job_id], end_time=datetime(2026, 11, ended[job_id], tzinfo=UTC)
            ),
        )

    jobs = {job_id: replace(lander, job_id=f"{job_id}-{lander.job_id}") for job_id in ended}
    places = {}
    for job_id, job in jobs.items():
        job.put_input(*(asked(key) for key in "abc"))
        rows = [
            {"key": "a", "request": request(), "response": response(job_id), "status": ""},
            {"key": "b", "request": request(), "response": None, "status": busy_now},
        ]
        places[job_id] = job.put_table(f"output_{job_id}", kinds, rows)
    for job_id in ("newer", "older", "older", "newer", "older"):
        land(job_id)
        rows = lander.rows()
        assert (rows["a"]["text"], rows["a"]["processed_at"].day) == ("newer", 2)
        assert rows["b"]["job_name"] == str(jobs["newer"].job().name)
        assert lander.errors()["b"]["job_name"] == rows["b"]["job_name"]
    # c has no response at all, so the row landed last stays.
    assert rows["c"]["status"] == "missing"


def test_a_key_that_never_succeeded_keeps_its_newest_row(lander: Lander) -> None:
    merge(lander, "one", busy("a"), failed("b", 400, "INVALID_ARGUMENT"))
    merge(lander, "two", failed("a", 500, "INTERNAL"), '{"key": "b", "broken')
    assert lander.statuses() == {"a": "failed", "b": "malformed", "c": "missing"}
    errors = lander.errors()
    assert {key: row["error_code"] for key, row in errors.items()} == {"a": 500, "b": None, "c": None}
    assert all(row["job_name"].endswith(f"two-{lander.job_id}") for row in errors.values())


def test_rows_without_a_known_key_stay_as_they_are(lander: Lander) -> None:
    """Their requests are unknown."""
    for _ in range(2):
        lander.put_input(asked(None, "x"), asked(None, "one"), asked(None, "other"))
        lander.put_output(
            json.dumps({"response": response("1")}),
            answered(None, "2", text="one"),
            answered(None, "3", text="other"),
        )
        manifest = lander.land(write_mode=WriteMode.MERGE)
        assert manifest.rows == 3
        found = lander.query(f"SELECT key IS NULL AS unknown FROM {lander.destination.quoted}")
        assert sorted(row["unknown"] for row in found) == [False, False, True]


def test_requests_and_responses_need_not_be_stored(lander: Lander) -> None:
    lander.put_input(*(asked(key) for key in "abc"))
    lander.put_output(answered("a", "1"), busy("b"))
    lander.land(include_request=False, include_response=False)
    rows = lander.rows()
    assert {key: (row["request"], row["response"]) for key, row in rows.items()} == dict.fromkeys(
        "abc", (None, None)
    )
    assert rows["a"]["text"] == "1"
    # Failed requests can be resubmitted.
    stored = [row["request"] for row in lander.errors().values()]
    assert [json.loads(each) if isinstance(each, str) else each for each in stored] == [request()] * 2
