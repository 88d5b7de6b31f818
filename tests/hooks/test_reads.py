from __future__ import annotations

from typing import Any

import pytest

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    JobNotFoundError,
    ServiceUnreachableError,
)
from airflow_gemini_batch.hooks import gemini_batch as hook_module
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from tests.waits import replace_sleep

NAME = JobName("p", "us-central1", "42")
BUSY = ApiError(503, "UNAVAILABLE", "busy")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    replace_sleep(monkeypatch, slept.append)
    return slept


def failing(monkeypatch: pytest.MonkeyPatch, *errors: GeminiBatchError) -> list[GeminiBatchError]:
    left = list(errors)

    def get_resource(*_: Any, **__: Any) -> dict[str, Any]:
        if left:
            raise left.pop(0)
        return {"name": str(NAME)}

    monkeypatch.setattr(hook_module, "get_resource", get_resource)
    monkeypatch.setattr(GeminiBatchHook, "_build_client", lambda *_: object())
    return left


@pytest.mark.parametrize("error", [BUSY, ServiceUnreachableError("ReadTimeout")])
def test_a_transient_error_is_retried_three_times(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], error: GeminiBatchError
) -> None:
    failing(monkeypatch, error, error, error)
    assert GeminiBatchHook().get_job(NAME).name == NAME
    assert len(waits) == 3
    assert all(0 <= wait <= longest for wait, longest in zip(waits, (2, 4, 8), strict=True))


def test_the_fourth_transient_error_is_raised_as_it_is(
    monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    left = failing(monkeypatch, *[BUSY] * 5)
    with pytest.raises(ApiError) as caught:
        GeminiBatchHook().get_job(NAME)
    assert caught.value is BUSY
    assert (len(waits), len(left)) == (3, 1)


@pytest.mark.parametrize(
    ("error", "retry"), [(JobNotFoundError(404, "NOT_FOUND", "no"), True), (BUSY, False)]
)
def test_other_reads_are_not_retried(
    monkeypatch: pytest.MonkeyPatch, waits: list[float], error: GeminiBatchError, retry: bool
) -> None:
    failing(monkeypatch, error)
    with pytest.raises(type(error)):
        GeminiBatchHook().get_job(NAME, retry=retry)
    assert waits == []
