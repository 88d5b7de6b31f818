from __future__ import annotations

from datetime import date

import pytest

from airflow_gemini_batch.jobs.model_notices import warnings_about, why_not_found

TODAY = date(2026, 11, 28)


@pytest.mark.parametrize(
    ("model", "today", "expected"),
    [
        ("gemini-3.5-flash", TODAY, []),
        ("gemini-3.5-flash", date(2027, 3, 19), []),
        ("gemini-3.5-flash", date(2027, 3, 20), ["retires on 2027-05-19 or later. Use a newer model"]),
        (
            "gemini-3.5-flash-001",
            date(2027, 6, 1),
            ["gemini-3.5-flash was due to retire on 2027-05-19 or later"],
        ),
        ("gemini-2.5-pro", date(2026, 10, 1), ["will be closed to new projects on 2026-10-20; reports say"]),
        (
            "gemini-2.5-pro",
            TODAY,
            ["was closed to new projects", "2027-03-31. Use gemini-3.5-flash instead."],
        ),
        (
            "gemini-2.5-flash-image",
            TODAY,
            ["retired on 2026-10-02. Use gemini-3.1-flash-lite-image instead."],
        ),
        ("gemini-2.0-flash", TODAY, ["gemini-2.0-flash retired on 2026-06-01. Use gemini-3.1-flash-lite"]),
        ("gemini-3.8-flash", TODAY, []),
        ("gemini-99-flash", TODAY, []),
        ("projects/p/locations/eu/models/7", TODAY, []),
    ],
)
def test_retirement(model: str, today: date, expected: list[str]) -> None:
    found = warnings_about(model, "global", today)
    assert len(found) == bool(expected)
    assert all(words in found[0] for words in expected)


@pytest.mark.parametrize(
    ("model", "location", "is_offered"),
    [
        ("gemini-3.5-flash", "global", True),
        ("gemini-3.5-flash", "europe-west2", True),
        ("gemini-3.5-flash", "us-central1", False),
        ("publishers/google/models/gemini-3.1-pro-preview", "eu", False),
        ("gemini-embedding-001", "global", False),
        ("gemini-4-argon", "us-central1", True),
        ("gemini-99-flash", "us-central1", True),
    ],
)
def test_places(model: str, location: str, is_offered: bool) -> None:
    found = warnings_about(model, location, TODAY)
    if is_offered:
        assert not found
    else:
        (warning,) = found
        assert f"is not offered in {location!r} but in " in warning
        assert "(as of 2026-08-22)" in warning


@pytest.mark.parametrize(
    ("model", "location", "expected"),
    [
        ("gemini-2.5-flash", "us-central1", "Use gemini-3.5-flash-lite instead."),
        ("gemini-3.5-flash", "us-central1", "Set location to one of these."),
        ("gemini-3.5-flash", "global", ""),
        ("gemini-3-5-flash", "global", "Did you mean gemini-3.5-flash?"),
        ("gemini-35-flash-lite", "global", "Did you mean gemini-3.5-flash-lite?"),
        ("llama", "global", ""),
        ("publishers/meta/models/gemini-3.5-flush", "global", ""),
    ],
)
def test_why_a_model_was_not_found(model: str, location: str, expected: str) -> None:
    found = why_not_found(model, location, TODAY)
    assert expected in found
    assert bool(found) == bool(expected)
