"""Vectors: of the right length, near for similar texts, the same for the same content."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from airflow_gemini_batch.emulator.running.rows import Habits, RowProcessor, prediction_line
from airflow_gemini_batch.emulator.running.storage import parse_line

MODEL = "gemini-embedding-001"


def process(request: dict[str, Any], model: str = MODEL, seed: int = 0) -> dict[str, Any]:
    line = json.dumps({"key": "k1", "request": request}).encode()
    output = RowProcessor(model, seed, Habits()).process(parse_line(line, Habits()))
    parsed: dict[str, Any] = json.loads(prediction_line(output))
    return parsed


def ask(text: str = "How do I change my password?", **config: Any) -> dict[str, Any]:
    request: dict[str, Any] = {"content": {"parts": [{"text": text}]}}
    return {**request, "embed_content_config": config} if config else request


def vector(request: dict[str, Any], **more: Any) -> list[float]:
    values: list[float] = process(request, **more)["response"]["embedding"]["values"]
    return values


def near(one: list[float], other: list[float]) -> float:
    return math.sumprod(one, other) if hasattr(math, "sumprod") else sum(map(float.__mul__, one, other))


def test_a_line_has_neither_status_nor_time() -> None:
    line = process(ask())
    assert list(line) == ["key", "request", "response"]
    assert line["request"] == ask()


@pytest.mark.parametrize(
    ("model", "counted"), [(MODEL, "tokenCount"), ("gemini-embedding-2", "usageMetadata")]
)
def test_both_ways_to_count_tokens(model: str, counted: str) -> None:
    response = process(ask("x" * 9), model)["response"]
    assert set(response) == {"embedding", counted}
    assert response[counted] in ("3", {"promptTokenCount": 3, "totalTokenCount": 3})


@pytest.mark.parametrize("length", [None, 1, 768, "256", 3072])
def test_a_vector_has_the_length_that_was_asked_for_and_length_one(length: Any) -> None:
    values = vector(ask(output_dimensionality=length) if length else ask())
    assert len(values) == int(length or 3072)
    assert math.hypot(*values) == pytest.approx(1)


def test_a_vector_depends_on_the_content_and_the_seed_only() -> None:
    camel = {**ask(), "embedContentConfig": {"taskType": "RETRIEVAL_QUERY"}}
    assert vector(ask()) == vector(camel) == vector({"content": {"role": "user", **ask()["content"]}})
    assert vector(ask()) != vector(ask("Something else"))
    assert vector(ask()) != vector(ask(), seed=1)
    assert vector(ask(title="One", task_type="RETRIEVAL_DOCUMENT")) != vector(ask())


def test_texts_that_share_words_are_near() -> None:
    one = vector(ask())
    assert near(one, vector(ask("I forgot my password: how can I change it?"))) > 0.4
    assert abs(near(one, vector(ask("The invoice names the wrong street.")))) < 0.2


@pytest.mark.parametrize(
    ("request_", "model", "message"),
    [
        ({"contents": [{"parts": [{"text": "x"}]}]}, MODEL, 'name \\"contents\\"'),
        (ask(), "gemini-3.5-flash", 'name \\"content\\"'),
        ({"embedContentConfig": {"outputDimensionality": 8}}, MODEL, "it has no content"),
        (ask(output_dimensionality=3073), MODEL, "between 1 and 3072"),
        (ask(task_type="SEARCH"), MODEL, "TYPE_ENUM"),
    ],
)
def test_a_request_that_the_model_does_not_take(request_: dict[str, Any], model: str, message: str) -> None:
    line = process(request_, model)
    assert line["status"].startswith("Bad Request: ")
    assert message in line["status"]
    assert line["response"] == {}
