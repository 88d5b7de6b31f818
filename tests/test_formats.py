from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_gemini_batch.formats import counted, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (4, "4 s"),
        (9.94, "9.9 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (90_000, "1 d 1 h"),
        (86_460, "1 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_a_duration_with_more_units() -> None:
    assert duration(timedelta(seconds=93_784), units=3) == "1 d 2 h 3 min"


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (2_000, "2,000 rows")])
def test_counts(number: int, text: str) -> None:
    assert counted(number, "row") == text
