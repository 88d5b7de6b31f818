"""One row, with the changes that the service makes to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_gemini_batch.emulator.protocol.errors import JobFailedError
from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.emulator.running.rows import Habits, RowProcessor, prediction_line
from airflow_gemini_batch.emulator.running.storage import parse_line


def process(request: Any, habits: Habits | None = None, seed: int = 0, **siblings: Any) -> dict[str, Any]:
    """Process one input line; return the parsed output line."""
    habits = habits or Habits()
    line = json.dumps({"request": request, **siblings}).encode()
    output = RowProcessor("gemini-3.5-flash", seed, habits).process(parse_line(line, habits))
    parsed: dict[str, Any] = json.loads(prediction_line(output))
    return parsed


def ask(text: str = "What is Python? It is a language.", **config: Any) -> dict[str, Any]:
    request: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return {**request, "generationConfig": config} if config else request


def text_of(line: dict[str, Any]) -> str:
    parts = line["response"]["candidates"][0]["content"].get("parts", [])
    return "".join(part["text"] for part in parts if not part.get("thought"))


def test_a_line_has_its_members_in_the_services_order() -> None:
    line = process(ask(), key="k1", other={"b": 1, "a": 2})
    assert list(line) == ["key", "other", "request", "status", "response", "processed_time"]
    assert line["key"] == "k1"
    assert line["status"] == ""


@pytest.mark.parametrize(
    ("key", "comes_back"),
    [
        ("000000", 0),
        ("12345", 12345),
        ("-7", -7),
        ("1.50", 1.5),
        ("k7", "k7"),
        ("7a", "7a"),
        ("", ""),
        (5, 5),
    ],
)
def test_keys_that_look_like_numbers_come_back_as_numbers(key: Any, comes_back: Any) -> None:
    line = process(ask(), key=key)
    assert line["key"] == comes_back
    assert type(line["key"]) is type(comes_back)


def test_habits_can_be_turned_off() -> None:
    habits = Habits(adds_nulls=False, coerces_numbers=False)
    request = ask()
    line = process(request, habits, key="007")
    assert line["key"] == "007"
    assert line["request"] == request
    assert "key" not in process(request, Habits(passes_fields=False), key="k")


def test_the_echoed_request_is_sorted_and_has_extra_nulls() -> None:
    request = {
        "generationConfig": {"topP": 0.5, "temperature": 0},
        **ask("Hi"),
        "labels": {"z": "1", "a": "2"},
    }
    line = process(request)["request"]
    assert json.dumps(line) == json.dumps(line, sort_keys=True)
    assert line["contents"][0]["parts"] == [{"fileData": None, "text": "Hi"}]
    assert {**line, "contents": None} == {**request, "contents": None}


def test_a_file_part_gets_a_null_text() -> None:
    part = {"fileData": {"fileUri": "gs://b/a.png", "mimeType": "image/png"}}
    line = process({"contents": [{"role": "user", "parts": [part]}]})
    assert line["request"]["contents"][0]["parts"] == [{**part, "text": None}]
    details = line["response"]["usageMetadata"]["promptTokensDetails"]
    assert details == [{"modality": "IMAGE", "tokenCount": 258}]


def test_unicode_line_separators_are_not_escaped() -> None:
    line = json.dumps({"request": ask("One\u2028two\u0085three.")}).encode()
    output = prediction_line(RowProcessor("m", 0, Habits()).process(parse_line(line, Habits())))
    assert "\u2028" in output.decode()
    assert output.count(b"\n") == 1


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (
            {"contents": [{"role": "robot", "parts": [{"text": "x"}]}]},
            "Please use a valid role: user, model.",
        ),
        ({"contents": []}, "at least one contents field is required"),
        ({"systemInstruction": {"parts": [{"text": "x"}]}}, "at least one contents field is required"),
        ({"contents": [{"role": "user", "parts": []}]}, "at least one parts field"),
        ({**ask(), "generationConfig": {"type_": "x"}}, "Unknown name \"type_\" at 'generation_config'"),
        (
            {**ask(), "responseSchema": {"type": "STRING"}},
            'Unknown name "responseSchema": Cannot find field.',
        ),
        (ask(temperature="hot"), "Invalid value at 'generation_config.temperature' (TYPE_FLOAT)"),
        (ask(responseJsonSchema={"type": "wrong"}), "there is no type wrong"),
    ],
)
def test_a_bad_request_fails_its_row(request_: Any, complaint: str) -> None:
    line = process(request_, key="k")
    prefix, _, details = line["status"].partition(": ")
    error = json.loads(details)["error"]
    assert prefix == "Bad Request"
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert complaint in error["message"]
    assert line["response"] == {}
    assert line["key"] == "k"


def test_snake_case_is_accepted() -> None:
    schema = {"type": "OBJECT", "properties": {"yes": {"type": "BOOLEAN"}}, "required": ["yes"]}
    request = {
        **ask(),
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "generation_config": {"response_mime_type": "application/json", "response_schema": schema},
    }
    line = process(request)
    assert line["status"] == ""
    assert list(json.loads(text_of(line))) == ["yes"]


def test_a_single_part_is_accepted_for_a_list_of_one() -> None:
    line = process({"contents": {"role": "user", "parts": {"text": "Hello there."}}})
    assert text_of(line) == "Hello there."


def test_the_answer_depends_only_on_request_and_seed() -> None:
    request = ask(
        "Tell me. " * 20, responseSchema={"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": 5}
    )
    reordered = dict(reversed(request.items())) | {"safetySettings": None}
    answers = [text_of(process(r, seed=s)) for r, s in ((request, 0), (reordered, 0), (request, 1))]
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]


def test_responses_conform_to_the_discovery_document() -> None:
    discovery = Discovery.load("aiplatform", "v1beta1")
    schema = discovery.schema_named("GenerateContentResponse")
    response = process(ask(thinkingConfig={"includeThoughts": True}, candidateCount=2))["response"]
    # Both were seen in real rows, but are not in the document.
    del response["usageMetadata"]["billablePromptUsage"]
    for candidate in response["candidates"]:
        del candidate["score"]
    assert discovery.violations(schema, response, strict=True) == []
    assert len(response["candidates"]) == 2


def test_usage_adds_up() -> None:
    usage = process(ask("x" * 400, thinkingConfig={"thinkingBudget": 64}))["response"]["usageMetadata"]
    assert usage["promptTokenCount"] == 100
    assert 0 < usage["thoughtsTokenCount"] <= 64
    parts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    assert usage["totalTokenCount"] == sum(usage[part] for part in parts)


@pytest.mark.parametrize("config", [{}, {"thinkingConfig": {"thinkingBudget": 0}}])
def test_no_thinking_by_default(config: dict[str, Any]) -> None:
    response = process(ask("Hi there.", **config))["response"]
    assert "thoughtsTokenCount" not in response["usageMetadata"]
    assert response["candidates"][0]["content"]["parts"] == [{"text": "Hi there."}]


def test_thoughts_are_shown_on_request_and_always_signed() -> None:
    shown = process(ask(thinkingConfig={"includeThoughts": True}))["response"]["candidates"][0]["content"][
        "parts"
    ]
    hidden = process(ask(thinkingConfig={}))["response"]["candidates"][0]["content"]["parts"]
    assert [part.get("thought", False) for part in shown] == [True, False]
    assert [part.get("thought", False) for part in hidden] == [False]
    assert shown[1]["thoughtSignature"]
    assert hidden[0]["thoughtSignature"]


def test_max_output_tokens_truncates_the_answer() -> None:
    text = "One long sentence that goes on and on about nothing in particular. " * 3
    whole = process(ask(text))
    cut = process(ask(text, maxOutputTokens=5))
    assert cut["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert cut["response"]["usageMetadata"]["candidatesTokenCount"] == 5
    assert len(text_of(cut)) == 20
    assert whole["response"]["candidates"][0]["finishReason"] == "STOP"


def test_thoughts_can_use_up_all_the_tokens() -> None:
    line = process(ask(maxOutputTokens=1, thinkingConfig={"thinkingBudget": -1}))
    candidate = line["response"]["candidates"][0]
    assert candidate["finishReason"] == "MAX_TOKENS"
    assert candidate["content"] == {"role": "model"}


def test_an_enum_can_be_plain_text() -> None:
    schema = {"type": "STRING", "enum": ["yes", "no"]}
    assert text_of(process(ask(responseMimeType="text/x.enum", responseSchema=schema))) in ("yes", "no")


def test_the_response_format_is_followed() -> None:
    given = [
        {"text": {"mimeType": "APPLICATION_JSON", "schema": {"type": "integer", "minimum": 4, "maximum": 4}}}
    ]
    assert text_of(process(ask(responseFormat=given))) == "4"


def test_json_without_a_schema_is_an_object() -> None:
    assert isinstance(json.loads(text_of(process(ask(responseMimeType="application/json")))), dict)


@pytest.mark.parametrize(
    "line",
    [b"not json", b"[]", b'"text"', b'{"key": "a"}', b'{"request": "text"}', b'{"request": {}, "a": NaN}'],
)
def test_a_line_that_cannot_be_imported_fails_the_job_without_quoting_it(line: bytes) -> None:
    with pytest.raises(JobFailedError, match="Failed to import data") as error:
        parse_line(line, Habits())
    assert error.value.code == 3
    assert line.decode() not in error.value.message
