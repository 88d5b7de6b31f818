"""Properties of a response schema that have the names of fixed columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.columns import RESULT_COLUMNS, result_columns
from tests.results.lines import answered, asked

if TYPE_CHECKING:
    from tests.results.conftest import Lander

SCHEMA = {
    "type": "object",
    "properties": {"status": {"type": "string"}, "text": {"type": "string"}, "a": {"type": "integer"}},
}


def names_of(*properties: str) -> list[str]:
    schema = ResponseSchema.of(
        {"type": "object", "properties": {name: {"type": "string"} for name in properties}}
    )
    return [column.name for column in result_columns(schema)[len(RESULT_COLUMNS) :]]


@pytest.mark.parametrize("name", [column.name for column in RESULT_COLUMNS])
def test_every_fixed_name_can_be_a_property(name: str) -> None:
    assert names_of(name, "other") == [f"answer_{name}", "other"]


@pytest.mark.parametrize(
    ("properties", "names"),
    [
        (["Status"], ["answer_Status"]),
        (["status", "answer_status"], ["answer_status_2", "answer_status"]),
        (["ANSWER_STATUS", "status"], ["ANSWER_STATUS", "answer_status_2"]),
        (
            ["status", "answer_status_2", "answer_status"],
            ["answer_status_3", "answer_status_2", "answer_status"],
        ),
    ],
)
def test_the_new_name_is_free(properties: list[str], names: list[str]) -> None:
    assert names_of(*properties) == names


@pytest.mark.parametrize("inferred", [True, False])
def test_they_land_under_another_name(lander: Lander, inferred: bool) -> None:
    """A second landing, of another job, finds its columns."""
    config: dict[str, Any] = {"generationConfig": {"responseSchema": SCHEMA}} if inferred else {}
    schema = None if inferred else ResponseSchema.of(SCHEMA)
    lander.put_input(asked("good", **config), asked("bad", **config))
    lander.put_output(
        answered("good", '{"status": "open", "text": "hello", "a": 1}'),
        answered("bad", '{"status": 7, "a": 2}'),
    )
    for _ in range(2):
        lander.land(schema)
        assert lander.statuses() == {"good": "succeeded", "bad": "invalid"}
        rows = lander.rows()
        assert (rows["good"]["answer_status"], rows["good"]["answer_text"], rows["good"]["a"]) == (
            "open",
            "hello",
            1,
        )
        assert rows["good"]["text"] == '{"status": "open", "text": "hello", "a": 1}'
        assert (rows["bad"]["answer_status"], rows["bad"]["a"]) == (None, 2)
        assert lander.errors()["bad"]["error_message"].endswith(": $.status is not STRING")


def test_a_list_lands_in_one_column(lander: Lander) -> None:
    schema = ResponseSchema.of({"type": "array", "items": SCHEMA})
    lander.put_input(asked("good"), asked("bad"))
    lander.put_output(
        answered("good", '[{"status": "open"}, {"text": "x", "a": 1}]'), answered("bad", '{"a": 1}')
    )
    lander.land(schema)
    assert lander.statuses() == {"good": "succeeded", "bad": "invalid"}
    assert lander.rows()["good"]["answer"] == [
        {"status": "open", "text": None, "a": None},
        {"status": None, "text": "x", "a": 1},
    ]
