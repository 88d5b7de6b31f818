"""Names of models, as users write them and as the service returns them."""

from __future__ import annotations

import pytest

from airflow_gemini_batch.models import ModelName


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemini-2.5-flash", ModelName("gemini-2.5-flash")),
        ("gemini-2.5-flash@001", ModelName("gemini-2.5-flash", "@001")),
        ("publishers/meta/models/llama@1", ModelName("llama", "@1", "meta")),
        (
            "projects/p/locations/us-east1/publishers/google/models/gemini-2.5-pro",
            ModelName("gemini-2.5-pro", "", "google", "p", "us-east1"),
        ),
        ("projects/p/locations/us-east1/models/42", ModelName("42", project="p", location="us-east1")),
        ("projects/p/locations/us-east1/endpoints/42", ModelName("42", project="p", location="us-east1")),
    ],
)
def test_every_form_is_parsed(name: str, expected: ModelName) -> None:
    assert ModelName.parse(name) == expected
    assert expected.is_tuned == (expected.id == "42")


@pytest.mark.parametrize("name", ["", "models/gemini", "projects/p/models/42", "a b", "-x", "gemini\n"])
def test_other_text_is_not_a_model(name: str) -> None:
    assert ModelName.parse(name) is None


def test_a_bare_id_is_googles() -> None:
    name = ModelName.parse("gemini-2.5-flash@001")
    assert name
    assert name.publisher_model == "publishers/google/models/gemini-2.5-flash@001"
