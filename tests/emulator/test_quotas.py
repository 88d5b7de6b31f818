from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.protocol.errors import CallError
from airflow_gemini_batch.emulator.quotas import Meter, Quotas
from airflow_gemini_batch.emulator.running.job_clock import Pace
from airflow_gemini_batch.emulator.server import Emulator
from airflow_gemini_batch.exceptions import InvalidParameterError
from tests.emulator.test_calls import error_of, job_body
from tests.emulator.wire import PARENT, Http

if TYPE_CHECKING:
    from collections.abc import Iterable


def answered(quotas: Quotas, calls: Iterable[tuple[float, str]], parent: str = PARENT) -> list[bool]:
    """Whether each call, at a time in seconds, has room."""
    now = 0.0
    meter = Meter(quotas, lambda: now)
    found = []
    for now, verb in calls:  # noqa: B007  # the clock reads it
        try:
            meter.spend(verb, parent)
            found.append(True)
        except CallError:
            found.append(False)
    return found


def test_a_window_that_does_not_slide_starts_anew() -> None:
    times = [5, 63, 64, 64.5, 65.5, 66, 67]
    two = Quotas(submission=2)
    assert answered(two, [(time, "create") for time in times]) == [
        True,
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_a_window_that_slides_forgets_each_call_after_a_minute() -> None:
    times = [0, 50, 59, 61, 62, 111]
    two = Quotas(submission=2, slides=True)
    assert answered(two, [(time, "create") for time in times]) == [True, True, False, True, False, True]


def test_refused_calls_count_if_asked_for() -> None:
    calls = [(time, "create") for time in range(0, 200, 20)]
    one = Quotas(submission=1, slides=True, counts_refused=True)
    assert answered(one, calls) == [True] + [False] * 9
    assert answered(one, [(0, "create"), (20, "create"), (81, "create")]) == [True, False, True]


def test_create_and_delete_count_together_and_get_list_and_cancel() -> None:
    quotas = Quotas(submission=2, management=3, count_tokens=1)
    verbs = ["create", "get", "delete", "list", "create", "cancel", "get", "predict", "predict"]
    seen = answered(quotas, zip(itertools.repeat(0.0), verbs, strict=False))
    assert seen == [True, True, True, True, False, True, False, True, False]


def test_projects_and_locations_have_quotas_of_their_own() -> None:
    meter = Meter(Quotas(submission=1))
    for parent in ("projects/a/locations/l", "projects/a/locations/m", "projects/b/locations/l"):
        meter.spend("create", parent)
        with pytest.raises(CallError):
            meter.spend("create", parent)
    assert meter.usage.submission == 3
    assert meter.usage.refused == {"submission": 3}


@pytest.mark.parametrize("value", [0, "many"])
@pytest.mark.parametrize("name", ["management", "submission", "count_tokens", "window"])
def test_a_quota_of_nothing_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidParameterError, match=f"{name}={value!r}"):
        Quotas(**{name: value})


def test_a_create_above_the_quota_is_a_429_and_makes_nothing() -> None:
    with Emulator(pace=Pace(reads=99), quotas=Quotas(submission=2)) as strict:
        call = Http(strict.url)
        assert [call("POST", "", job_body())[0] for _ in range(3)] == [200, 200, 429]
        error = error_of(call("POST", "", job_body()))
        assert error["status"] == "RESOURCE_EXHAUSTED"
        (detail,) = error["details"]
        assert (detail["reason"], detail["metadata"]["quota_limit_value"]) == ("RATE_LIMIT_EXCEEDED", "2")
        assert call("GET")[0] == 200
        assert len(strict.jobs) == 2
        assert (strict.usage.submission, strict.usage.refused) == (2, {"submission": 2})
        strict.clear()
        assert call("POST", "", job_body())[0] == 200


def test_there_are_no_quotas_unless_asked_for() -> None:
    with Emulator() as emulator:
        call = Http(emulator.url)
        assert {call("GET")[0] for _ in range(700)} == {200}
        assert emulator.usage.management == 700
