"""Typed columns of a landing without ``response_schema``."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.results.columns import RESULT_COLUMNS
from airflow_gemini_batch.results.inferred_schema import MAX_SPELLINGS, agreed
from tests.results.lines import answered, asked

if TYPE_CHECKING:
    from tests.results.conftest import Lander

SCHEMA = {
    "type": "OBJECT",
    "properties": {"b": {"type": "INTEGER"}, "a": {"type": "STRING"}},
    "required": ["a"],
}


def asks_for(
    schema: dict[str, Any], name: str = "responseSchema", config: str = "generationConfig"
) -> dict[str, Any]:
    return {config: {"responseMimeType": "application/json", name: schema}}


def typed_columns(lander: Lander) -> list[str]:
    table = lander.bigquery.get_table(str(lander.destination))
    return [field.name for field in table.schema][len(RESULT_COLUMNS) :]


def test_all_requests_agree(lander: Lander) -> None:
    """In any spelling. A second landing changes nothing."""
    other = {
        "required": ["a"],
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
    }
    lander.put_input(
        asked("1", **asks_for(SCHEMA)),
        asked("2", **asks_for(other, "response_json_schema", "generation_config")),
        asked("3", **asks_for({**SCHEMA, "description": None})),
    )
    lander.put_output(
        answered("1", '{"a": "x", "b": 1}'), answered("2", '{"b": 1}'), answered("3", '{"a": "y"}')
    )
    first = lander.land()
    assert sorted(typed_columns(lander)) == ["a", "b"]
    assert lander.statuses() == {"1": "succeeded", "2": "invalid", "3": "succeeded"}
    assert (lander.rows()["1"]["a"], lander.rows()["1"]["b"]) == ("x", 1)
    assert lander.errors()["2"]["error_message"].endswith(": $.a is missing")
    assert lander.land() == first
    assert lander.tables() == {"results", "results_errors", "results_usage"}


def test_requests_in_a_table(lander: Lander) -> None:
    given = [{"key": "1", "request": json.loads(asked(**asks_for(SCHEMA)))["request"]}]
    source = lander.put_table("input", {"key": "STRING", "request": "JSON"}, given)
    lander.put_output(answered("1", '{"a": "x"}'))
    lander.land(job=lander.job(input_uris=(source,)))
    assert lander.rows()["1"]["a"] == "x"


def test_requests_that_are_known_only_from_the_output(lander: Lander) -> None:
    request = json.loads(asked(**asks_for(SCHEMA)))["request"]
    lander.put_output(answered("1", '{"a": "x"}', request=request), '{"torn')
    lander.land()
    assert lander.rows()["1"]["a"] == "x"


def test_it_can_be_turned_off(lander: Lander) -> None:
    lander.put_input(asked("1", **asks_for(SCHEMA)))
    lander.put_output(answered("1", "{}"))
    lander.land(infer_schema=False)
    assert (typed_columns(lander), lander.statuses()) == ([], {"1": "succeeded"})


def test_a_table_with_incompatible_columns_does_not_fail_the_landing(
    lander: Lander, caplog: pytest.LogCaptureFixture
) -> None:
    from google.cloud.bigquery import SchemaField, Table

    from airflow_gemini_batch.results.columns import schema_fields

    own = [*schema_fields(RESULT_COLUMNS), SchemaField("a", "INTEGER"), SchemaField("b", "INTEGER")]
    lander.bigquery.create_table(Table(str(lander.destination), own))
    lander.put_input(asked("1", **asks_for(SCHEMA)))
    lander.put_output(answered("1", "{}"))
    with caplog.at_level(logging.WARNING):
        lander.land()
    assert lander.statuses() == {"1": "succeeded"}
    assert "column a is INTEGER NULLABLE, not STRING NULLABLE" in caplog.text


def text(**properties: Any) -> str:
    return json.dumps({"type": "object", "properties": properties})


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([text(a={"type": "string"}), None], "do not all have the same response schema"),
        ([text(a={"type": "string"}), text(a={"type": "integer"})], "have different response schemas"),
        ([text(_TABLE_={"type": "string"})], "$.properties._TABLE_: BigQuery reserves this prefix"),
        (['{"type": "STRING", "enum": ["yes", "no"]}'], "at $: the answer must be an object"),
        ([text(a={"$ref": "#/$defs/gone"})], "$.properties.a: there is nothing of that name"),
        (['"no schema"'], "at $: give a pydantic model"),
        (
            [text(a={"type": "string", "title": str(n)}) for n in range(MAX_SPELLINGS)],
            "not all have",
        ),
    ],
)
def test_a_schema_without_matching_columns_is_ignored(
    texts: list[str | None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert agreed(texts) is None
    assert reason in caplog.text


@pytest.mark.parametrize("texts", [[], [None]])
def test_no_schema_logs_nothing(texts: list[str | None], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert agreed(texts) is None
    assert caplog.text == ""
