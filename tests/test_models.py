"""Names of models, as users write them and as the service returns them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.models import Model, ModelName, find_model, models
from airflow_gemini_batch.settings import MODELS_FILE

if TYPE_CHECKING:
    from pathlib import Path


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


def test_a_version_is_known_as_its_model() -> None:
    for name in (
        "gemini-3.5-flash",
        "gemini-3.5-flash@001",
        "gemini-3.5-flash-001",
        "gemini-3.5-flash-preview-09-2026",
    ):
        assert find_model(name) == find_model("publishers/google/models/gemini-3.5-flash")
    assert find_model("gemini-3.1-pro-preview") != find_model("gemini-3.5-flash")


@pytest.mark.parametrize(
    "name",
    ["gemini-9-flash", "publishers/meta/models/gemini-3.5-flash", "projects/p/locations/eu/models/4", "a b"],
)
def test_other_models_are_unknown(name: str) -> None:
    assert find_model(name) is None


def test_retired_models_name_their_replacement() -> None:
    found = find_model("gemini-2.0-flash-001")
    assert found
    assert found.is_retired(date(2026, 6, 1))
    assert not found.is_retired(date(2026, 5, 31))
    assert found.replacement == "gemini-3.1-flash-lite"


def test_a_day_that_may_come_later_does_not_retire_a_model() -> None:
    found = find_model("gemini-3.5-flash")
    assert found
    assert found.retires == date(2027, 5, 19)
    assert not found.is_retired(date(2028, 1, 1))


def test_the_place_decides_on_the_price() -> None:
    found = find_model("gemini-3.5-flash")
    assert found
    assert found.price_factor("global") == 1
    assert found.price_factor("eu") == Decimal("1.1")
    assert found.is_offered_in("eu")
    assert found.is_offered_in("us-central1") is False
    assert Model().is_offered_in("us-central1") is None


def test_a_newer_file_replaces_what_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(
        '{"as_of": "2027-01-01", "models": {"gemini-9-flash": {"locations": ["eu"], "news": 1}},'
        ' "retired": {"gemini-3.5-flash": ["2026-12-24", "gemini-9-flash"]}}'
    )
    before = models()
    monkeypatch.setenv(MODELS_FILE.variable, str(file))
    assert models().as_of == date(2027, 1, 1)
    assert models().search == before.search
    newer, retired = find_model("gemini-9-flash"), find_model("gemini-3.5-flash")
    assert newer == Model(locations=("eu",))
    assert retired == Model(retires=date(2026, 12, 24), replacement="gemini-9-flash")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"as_of": "today", "models": {}}',
        '{"as_of": "2027-01-01", "models": {"m": {"max_rows": "x"}}}',
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "models.json"
    file.write_text(content)
    monkeypatch.setenv(MODELS_FILE.variable, str(file))
    with pytest.raises(InvalidParameterError, match=r"GEMINI_BATCH_MODELS=.*models\.json'"):
        models()


def test_a_file_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(MODELS_FILE.variable, str(tmp_path / "none.json"))
    with pytest.raises(InvalidParameterError, match=r"none\.json"):
        models()
