"""Every class takes the shared parameters flat, with one name, type, default and description each."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.decorators.gemini_batch import GeminiBatchDecoratedOperator
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import (
    BigQueryToGeminiBatchRequestsOperator,
    GeminiBatchRequestsOperator,
)
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from airflow_gemini_batch.task_groups import gemini_batch
from airflow_gemini_batch.tasks.landing_options import LandingOptions
from airflow_gemini_batch.tasks.options import (
    ConnectionOptions,
    EndOptions,
    KeyOptions,
    RequestOptions,
    SubmitOptions,
    WaitOptions,
)
from airflow_gemini_batch.tasks.retry_options import RetryOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_gemini_batch.tasks.parameters import Options

ALL = (
    RequestOptions,
    KeyOptions,
    SubmitOptions,
    WaitOptions,
    EndOptions,
    LandingOptions,
    ConnectionOptions,
)
TAKES: dict[Callable[..., Any], tuple[type[Options], ...]] = {
    GeminiBatchSubmitOperator: (SubmitOptions, KeyOptions, WaitOptions, EndOptions, ConnectionOptions),
    GeminiBatchJobSensor: (WaitOptions, EndOptions, ConnectionOptions),
    GeminiBatchResultsToBigQueryOperator: (LandingOptions, KeyOptions, ConnectionOptions),
    GeminiBatchRetryFailedOperator: (
        RetryOptions,
        KeyOptions,
        SubmitOptions,
        WaitOptions,
        LandingOptions,
        ConnectionOptions,
    ),
    GeminiBatchRequestsOperator: (RequestOptions, KeyOptions, ConnectionOptions),
    BigQueryToGeminiBatchRequestsOperator: (RequestOptions, ConnectionOptions),
    GeminiBatchDecoratedOperator: ALL,
    gemini_batch: ALL,
}
# Airflow's sensors call it `timeout`.
RENAMED = {(GeminiBatchJobSensor, "wait_timeout"): "timeout"}
# Clearing a sensor means to wait again.
OTHER_DEFAULT = {(GeminiBatchJobSensor, "cancel_on_kill"): False, (gemini_batch, "cancel_on_kill"): False}
PAIRS = [(taker, kind) for taker, kinds in TAKES.items() for kind in kinds]


def documentation(taker: Callable[..., Any]) -> dict[str, str]:
    """The text of each ``:param``; fails when one stands twice."""
    found = re.findall(
        r"^:param (\w+): (.*(?:\n(?!:).*)*)", inspect.cleandoc(taker.__doc__ or ""), re.MULTILINE
    )
    assert len(dict(found)) == len(found), [name for name, _ in found]
    return {name: " ".join(text.split()) for name, text in found}


@pytest.mark.parametrize(("taker", "kind"), PAIRS, ids=lambda each: each.__name__)
def test_a_signature_has_every_shared_parameter(taker: Callable[..., Any], kind: type[Options]) -> None:
    parameters = inspect.signature(taker).parameters
    for field in fields(kind):
        parameter = parameters[RENAMED.get((taker, field.name), field.name)]
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.annotation == field.type, field.name
        default = OTHER_DEFAULT.get((taker, field.name), field.default)
        if parameter.default is not parameter.empty:
            assert parameter.default == default, field.name


@pytest.mark.parametrize("taker", TAKES, ids=lambda each: each.__name__)
def test_every_parameter_is_documented_and_nothing_else(taker: Callable[..., Any]) -> None:
    own = {
        name
        for name, parameter in inspect.signature(taker).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    assert set(documentation(taker)) == own


@pytest.mark.parametrize(
    "taker", [taker for taker in TAKES if taker is not gemini_batch], ids=lambda each: each.__name__
)
def test_the_documentation_says_what_is_templated(taker: Any) -> None:
    said = {name for name, text in documentation(taker).items() if "(templated" in text}
    # The decorator builds its input itself.
    assert said == set(taker.template_fields) - {"templates_dict"}


@pytest.mark.parametrize("kind", [RetryOptions, *ALL], ids=lambda each: each.__name__)
def test_a_shared_parameter_is_documented_where_it_is_declared(kind: type[Options]) -> None:
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        texts |= documentation(each)
    assert set(texts) == {field.name for field in fields(kind)}
    assert {name for name, text in texts.items() if "(templated" in text} == set(kind.templated)


@pytest.mark.parametrize("value", [0, -1, "60", True, None, float("inf"), float("nan")])
def test_a_poll_interval_is_a_length_of_time(value: object) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(f"poll_interval={value!r}: give a number")):
        WaitOptions(poll_interval=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", ["4h", True, None, -60, timedelta(-1), timedelta.max, 1e12, float("inf"), float("nan")]
)
def test_a_wait_timeout_is_a_length_of_time(value: object) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(f"wait_timeout={value!r}: give a number")):
        WaitOptions(wait_timeout=value)  # type: ignore[arg-type]
    assert WaitOptions(wait_timeout=60) != WaitOptions(wait_timeout=timedelta(hours=1))
