"""Which rows are good: empty answers, and statuses in every form of ``google.rpc.Status``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.results.row_status import DESCRIPTIVE_MEMBERS
from tests.results.lines import USAGE, answered, asked, request, response

if TYPE_CHECKING:
    from tests.results.conftest import Lander

EMPTY = "The model stopped normally but gave an empty answer"
THOUGHT = {"text": "thinking", "thought": True}
CALL = {"functionCall": {"name": "f", "args": {"x": 1}}}
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}


def without_content(**candidate: Any) -> dict[str, Any]:
    return {"candidates": [{"finishReason": "STOP", **candidate}], "usageMetadata": USAGE}


EMPTY_ANSWERS: dict[str, dict[str, Any]] = {
    "text_is_empty": response(""),
    "no_parts": without_content(content={"role": "model"}),
    "parts_empty": response(),
    "no_content": without_content(),
    "only_a_thought": response(THOUGHT),
    "no_finish_reason": response("", finish=None),
    "white_space": response(" \n\t\u00a0\u200b"),
    "several_empty_texts": response("", {"text": " ", "thoughtSignature": "c2ln"}, THOUGHT),
    "signature": response({"thoughtSignature": "c2ln"}),
    "snake_case_signature": response({"thought_signature": "c2ln"}),
    "echoed_nulls": response({"text": None, "inlineData": None, "functionCall": {}}),
    "thought_image": response({**IMAGE, "thought": True}),
    "described_text": response({"text": "", "videoMetadata": {"fps": 1}}),
    "no_candidates": {"candidates": [], "usageMetadata": USAGE},
    "only_usage": {"usageMetadata": USAGE, "modelVersion": "gemini-2.5-flash"},
    "snake_case_reason": {"candidates": [{"finish_reason": "STOP", "content": {"parts": [{"text": ""}]}}]},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "good": response("ok"),
    "function_call": response(CALL),
    "function_call_in_snake_case": response({"function_call": {"name": "f"}}),
    "function_call_without_reason": response(CALL, finish=None),
    "function_call_after_a_thought": response(THOUGHT, {**CALL, "thoughtSignature": "c2ln"}),
    "empty_text_and_function_call": response("", CALL),
    "image": response(IMAGE),
    "image_in_snake_case": response({"inline_data": {"mime_type": "image/png", "data": "iVBORw=="}}),
    "file": response({"fileData": {"fileUri": "gs://b/i.png"}, "text": None}),
    "code": response({"executableCode": {"language": "PYTHON", "code": "print(1)"}}),
    "code_result": response({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": ""}}),
    "something_new": response({"hologram": {"uri": "gs://b/h"}}),
    "zero": response("0"),
    "embedding": {"embedding": {"values": [0.5]}, "tokenCount": "2"},
}


def test_an_empty_answer_is_a_failure(lander: Lander) -> None:
    answers = EMPTY_ANSWERS | ANSWERS
    lander.put_input(*(asked(key) for key in answers))
    lander.put_output(*(answered(key, answer) for key, answer in answers.items()))
    manifest = lander.land()
    assert lander.statuses() == dict.fromkeys(EMPTY_ANSWERS, "failed") | dict.fromkeys(ANSWERS, "succeeded")
    errors = lander.errors()
    assert errors.keys() == EMPTY_ANSWERS.keys()
    assert {row["error_message"] for row in errors.values()} == {EMPTY}
    assert {(row["error_code"], row["retryable"]) for row in errors.values()} == {(None, True)}
    # Tokens are charged, whatever the answer holds.
    assert manifest.tokens.thought == 0
    assert lander.rows()["text_is_empty"]["cost_usd"] == lander.rows()["good"]["cost_usd"] > 0


@pytest.mark.parametrize(
    ("finish", "status"), [("MAX_TOKENS", "truncated"), ("SAFETY", "blocked"), ("OTHER", "failed")]
)
def test_an_answer_that_did_not_stop_normally_keeps_its_reason(
    lander: Lander, finish: str, status: str
) -> None:
    lander.put_input(asked("a"), asked("b"))
    in_snake_case = {"candidates": [{"finish_reason": finish, "content": {"parts": []}}]}
    lander.put_output(answered("a", response(finish=finish)), answered("b", in_snake_case))
    lander.land()
    assert lander.statuses() == {"a": status, "b": status}
    assert {row["error_message"] == EMPTY for row in lander.errors().values()} == {False}


def test_the_prompt_was_blocked(lander: Lander) -> None:
    lander.put_input(asked("a"))
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USAGE}
    lander.put_output(answered("a", blocked))
    lander.land()
    assert lander.statuses() == {"a": "blocked"}


@pytest.mark.parametrize("type_", ["JSON", "STRING"])
def test_an_empty_answer_in_a_table(lander: Lander, type_: str) -> None:
    answers = {"empty": response(""), "good": response("ok")}
    rows = [
        {
            "key": key,
            "request": request(),
            "response": answer if type_ == "JSON" else json.dumps(answer),
            "status": "",
        }
        for key, answer in answers.items()
    ]
    columns = {"key": "STRING", "request": "JSON", "response": type_, "status": "STRING"}
    place = lander.put_table("output", columns, rows)
    lander.land(job=lander.job(input_uris=(), output_location=place))
    assert lander.statuses() == {"empty": "failed", "good": "succeeded"}


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_every_member_of_a_part_is_known(version: str) -> None:
    """Either it describes the part, or it is an answer."""
    discovery = Discovery.load("aiplatform", version)
    part = discovery.schema(discovery.schema_named("Part"))["properties"]
    assert set(part) - set(DESCRIPTIVE_MEMBERS) <= {
        *("audioTranscription", "codeExecutionResult", "executableCode", "fileData", "functionCall"),
        *("functionResponse", "inlineData"),
    }


STATUSES: dict[str, tuple[Any, Any]] = {
    "c4": ('{"code":4,"message":"Request deadline exceeded before prefill finished."}', (4, True)),
    "c3": ('{"code":3,"message":"The GenerateContentRequest proto is invalid"}', (3, False)),
    "c8": ('{"code":8,"message":"Resource has been exhausted"}', (8, True)),
    "c13": ('{"code":13,"message":"An internal error has occurred."}', (13, True)),
    "object_c8": ({"code": 8, "message": "quota"}, (8, True)),
    "object_c10": ({"code": 10}, (10, True)),
    "object_c14": ({"message": "later", "code": "14", "details": []}, (14, True)),
    "object_c7": ({"code": 7, "message": "try again"}, (7, False)),
    "inner_error": ({"error": {"code": 503, "message": "No", "status": "UNAVAILABLE"}}, (503, True)),
    "words": ('Internal: {"code": 13, "message": "No"}', (13, True)),
    "not_found": ({"code": 5, "message": "No"}, (5, False)),
    "http": ('{"code": 429, "message": "No"}', (429, True)),
    "only_a_name": ({"status": "UNAVAILABLE"}, (None, True)),
    "only_a_message": ({"message": "No"}, (None, False)),
}
GOOD_STATUSES: dict[str, Any] = {
    "c0": '{"code":0}',
    "object_c0": {"code": 0},
    "ok": {"code": 0, "message": "OK"},
    "zero_as_text": '{"code": "0", "details": []}',
    "empty_text": "",
    "blank": " ",
    "empty_object": {},
    "empty_object_as_text": "{ }",
    "null": None,
    "null_as_text": "null",
    "empty_members": {"code": None, "message": "", "details": []},
    "empty_error": {"error": {}},
    "error_c0": {"error": {"code": 0}},
}


def test_every_form_of_a_status(lander: Lander) -> None:
    answers = {key: ({}, status) for key, (status, _) in STATUSES.items()}
    answers |= {key: (response("fine"), status) for key, status in GOOD_STATUSES.items()}
    lander.put_input(*(asked(key) for key in answers))
    lander.put_output(*(answered(key, answer, status=status) for key, (answer, status) in answers.items()))
    manifest = lander.land()
    assert lander.statuses() == dict.fromkeys(STATUSES, "failed") | dict.fromkeys(GOOD_STATUSES, "succeeded")
    errors = lander.errors()
    assert {key: (row["error_code"], row["retryable"]) for key, row in errors.items()} == {
        key: expected for key, (_, expected) in STATUSES.items()
    }
    assert errors["c4"]["error_message"] == "Request deadline exceeded before prefill finished."
    assert [errors[key]["error_status"] for key in ("c4", "object_c8", "inner_error")] == [
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
    ]
    assert errors["object_c10"]["error_message"] == '{"code":10}'
    # Rows with code 0 are charged, the others are not.
    assert lander.rows()["c0"]["cost_usd"] > 0
    assert manifest.tokens.total == USAGE["totalTokenCount"] * len(GOOD_STATUSES)


def test_a_good_status_without_a_response_is_a_failure(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(answered("a", {}, status='{"code": 0}'))
    lander.land()
    assert lander.errors()["a"]["error_message"] == "The output row contains neither a response nor an error"


@pytest.mark.parametrize("type_", ["STRING", "JSON"])
def test_a_status_in_a_column(lander: Lander, type_: str) -> None:
    statuses = {"bad": {"code": 8, "message": "quota"}, "good": {"code": 0}}
    rows = [
        {
            "key": key,
            "request": request(),
            "response": response("fine") if key == "good" else None,
            "status": status if type_ == "JSON" else json.dumps(status),
        }
        for key, status in statuses.items()
    ]
    columns = {"key": "STRING", "request": "JSON", "response": "JSON", "status": type_}
    place = lander.put_table("output", columns, rows)
    lander.land(job=lander.job(input_uris=(), output_location=place))
    assert lander.statuses() == {"bad": "failed", "good": "succeeded"}
    error = lander.errors()["bad"]
    assert (error["error_code"], error["error_message"], error["retryable"]) == (8, "quota", True)
