"""A schema that only the landing knows: the requests never asked for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.requests.response_schema import ResponseSchema
from tests.results.lines import answered, asked

if TYPE_CHECKING:
    from tests.results.conftest import Lander

SCHEMA = ResponseSchema.of({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
SAID = "do not ask for JSON. Set response_schema on the task that builds the requests as well"


@pytest.mark.parametrize(
    ("config", "answer", "is_said"),
    [
        ({}, "a river", True),
        ({"generationConfig": {"temperature": 0}}, "a river", True),
        ({"generationConfig": {"responseMimeType": "application/json"}}, "a river", False),
        ({"generation_config": {"response_json_schema": {}}}, "a river", False),
        ({}, '{"a": "river"}', False),
    ],
)
def test_the_requests_did_not_ask_for_the_schema(
    lander: Lander, caplog: pytest.LogCaptureFixture, config: dict[str, Any], answer: str, is_said: bool
) -> None:
    lander.put_input(asked("x", **config), asked("y", "Other", **config))
    lander.put_output(answered("x", answer), answered("y", answer, text="Other"))
    lander.land(SCHEMA)
    assert (SAID in caplog.text) is is_said
