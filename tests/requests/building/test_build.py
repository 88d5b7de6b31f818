"""Request lines from prompts in all accepted forms."""

from __future__ import annotations

import json
import re
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.building.build import Defaults, build_lines
from airflow_gemini_batch.requests.building.media import media
from airflow_gemini_batch.requests.building.template import PromptTemplate
from airflow_gemini_batch.requests.key_field import KeyField
from airflow_gemini_batch.requests.keys import KEY_LABEL, LABEL_PATTERN, label_of

SCHEMA = {"type": "object", "properties": {"topic": {"type": "string"}}}


def build(prompts: Any, defaults: Defaults | None = None, **more: Any) -> list[dict[str, Any]]:
    lines = list(build_lines(prompts, defaults, **more))
    documents = [json.loads(line.data) for line in lines]
    for line, document in zip(lines, documents, strict=True):
        assert document["key"] == line.key
        # Labels go to Cloud Billing: there are none but those that the user sets.
        assert KEY_LABEL not in document["request"].get("labels", {})
        assert line.data.endswith(b"\n")
        assert len(line.data.splitlines()) == len(line.data.decode().splitlines()) == 1
    return documents


def contents(prompt: Any, **more: Any) -> Any:
    return build([prompt], **more)[0]["request"]["contents"]


def test_text() -> None:
    (line,) = build(["Hello"])
    assert line["request"]["contents"] == [{"role": "user", "parts": [{"text": "Hello"}]}]
    assert set(line) == {"key", "request"}


@given(st.text(min_size=1), st.text(min_size=0, max_size=5))
def test_any_text_arrives_as_it_is(text: str, more: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(InvalidParameterError, match="surrogate"):
            build([text])
        return
    assert contents(text) == [{"role": "user", "parts": [{"text": text}]}]
    assert contents([text, text]) == [{"role": "user", "parts": [{"text": text}, {"text": text}]}]


class Marked(str):
    """Text as libraries hand it out, such as ``numpy.str_``."""

    __slots__ = ()


def test_text_of_a_subclass_of_str_is_text() -> None:
    plain = build(["a\n", ["a\n"]]) + build([("k1", "a\n")])
    assert build([Marked("a\n"), [Marked("a\n")]])[0] == plain[0]
    (line,) = build([(Marked("k1"), Marked("a\n"))])
    assert line == plain[2]
    (row,) = build([[Marked("a\n")]])
    assert row["request"] == plain[1]["request"]
    assert row["key"] == build([[Marked("a\n")]])[0]["key"]


def test_a_number_that_json_does_not_have_is_refused() -> None:
    request = {"contents": [{"parts": [{"text": "a"}]}], "generationConfig": {"temperature": float("nan")}}
    with pytest.raises(InvalidParameterError, match="not valid JSON"):
        build([request])
    with pytest.raises(InvalidParameterError, match="not valid JSON"):
        build([{**request, "generationConfig": {"temperature": object()}}])


def test_keys_are_given_or_follow_from_the_content() -> None:
    given_keys = build([("invoice-17", "a"), {"key": "Case 9/b", "prompt": "a"}])
    assert [line["key"] for line in given_keys] == ["invoice-17", "Case 9/b"]
    assert [line["key"] for line in build({"k1": "a", "k2": "b"})] == ["k1", "k2"]
    first, second, third = (line["key"] for line in build(["a", "b", ["a"]]))
    assert len({first, second, third}) == 3
    assert [line["key"] for line in build(["a"], Defaults(system_instruction="x"))] == [first]
    assert all(re.fullmatch("[a-z][a-z0-9]+", key) for key in (first, second, third))


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_every_key_has_a_label(key: str) -> None:
    label = label_of(key)
    assert re.fullmatch(LABEL_PATTERN, label)
    assert label == key or label.startswith("h-")


@pytest.mark.parametrize("key", ["000000", "17", "-3", "", "_x", 17, "x" * 1025])
def test_keys_that_the_service_would_change(key: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"prompts \(row 2\): key=.*letter"):
        build([("fine", "a"), (key, "b")])


LABELED = {"generation_config": {"labels": {"team": "x"}}}
KEYED: list[Any] = [
    ("a", "text"),
    ("b", ["a part"]),
    {"key": "c", "prompt": "text"},
    {"key": "d", "request": {"contents": "text", "labels": {"mine": "y"}}},
]


@pytest.mark.parametrize("shared", [{}, LABELED], ids=["no labels", "labels"])
def test_keys_are_labels_only_if_asked_for(shared: dict[str, Any]) -> None:
    without = build(KEYED, Defaults(**shared))
    labeled = [
        json.loads(line.data)
        for line in build_lines([*KEYED, ("E f", "x")], Defaults(**shared, key_label=True))
    ]
    for line, plain in zip(labeled, without, strict=False):
        assert line["request"]["labels"].pop(KEY_LABEL) == line["key"] == plain["key"]
        # The import refuses an object without members.
        assert plain["request"].get("labels") != {}
        assert line["request"]["labels"] == plain["request"].get("labels", {})
    assert labeled[-1]["request"]["labels"][KEY_LABEL] == label_of("E f") != "E f"


@pytest.mark.parametrize("shared", [{}, LABELED], ids=["no labels", "labels"])
@pytest.mark.parametrize("name", ["custom_id", "metadata.request_id", "labels.custom-id"])
def test_keys_go_where_they_are_looked_for(name: str, shared: dict[str, Any]) -> None:
    field = KeyField.parse(name)
    lines = list(build_lines([*KEYED, "no key"], Defaults(**shared), key_field=field))
    documents = [json.loads(line.data) for line in lines]
    assert [field.read(document) for document in documents] == [line.key for line in lines]
    assert [line.key for line in lines][:4] == ["a", "b", "c", "d"]
    for document in documents:
        assert "key" not in document
        assert ("labels" in document["request"]) is bool(
            field.is_label or shared or field.read(document) == "d"
        )


def test_a_prompt_may_have_its_key_there_too() -> None:
    def keys(name: str, *prompts: Any, **more: Any) -> list[str]:
        return [line.key for line in build_lines(prompts, key_field=KeyField.parse(name), **more)]

    assert keys("custom_id", {"custom_id": "a", "prompt": "x"}) == ["a"]
    assert keys("custom_id", {"custom_id": "a", "request": {"contents": "x"}}) == ["a"]
    assert keys("custom_id", {"custom_id": "a", "title": "x"}, template="About {title}") == ["a"]
    assert keys("meta.id", {"meta": {"id": "a"}, "prompt": "x"}) == ["a"]
    assert keys("labels.id", {"request": {"contents": "x", "labels": {"id": "a"}}}) == ["a"]
    with pytest.raises(InvalidParameterError, match=r"labels\.id='A key': as a label it may only"):
        keys("labels.id", ("A key", "x"))


def test_media() -> None:
    part = {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://b/a.PDF"}}
    assert media("gs://b/a.PDF") == part
    assert media("gs://b/a", "video/mp4")["fileData"]["mimeType"] == "video/mp4"
    assert media("https://youtu.be/a", "video/mp4")["fileData"]["fileUri"] == "https://youtu.be/a"
    with pytest.raises(InvalidParameterError, match="use the form gs://bucket/object, or the URL"):
        media("https://example.com/a.pdf")
    assert contents(["Sum up", media("gs://b/a.PDF")])[0]["parts"] == [{"text": "Sum up"}, part]
    row = {
        "prompt": "Sum up",
        "media_uri": ["gs://b/a.PDF", "gs://b/c.png"],
        "system_instruction": "Be short",
    }
    (line,) = build([row])
    assert [p.get("fileData", {}).get("mimeType") for p in line["request"]["contents"][0]["parts"]] == [
        "application/pdf",
        "image/png",
        None,
    ]
    assert line["request"]["systemInstruction"] == {"parts": [{"text": "Be short"}]}


def test_objects_of_google_genai() -> None:
    from google.genai import types

    turn = types.Content(role="user", parts=[types.Part(text="Hello")])
    answer = types.Content(role="model", parts=[types.Part(text="Hi")])
    pdf = types.Part.from_uri(file_uri="gs://b/a.pdf", mime_type="application/pdf")
    assert contents(turn) == [{"role": "user", "parts": [{"text": "Hello"}]}]
    assert [c["role"] for c in contents([turn, answer, turn])] == ["user", "model", "user"]
    assert contents(["Sum up", pdf])[0]["parts"][1] == media("gs://b/a.pdf")
    assert contents({"key": "k", "prompt": ["Sum up", pdf]})[0]["parts"][1] == media("gs://b/a.pdf")
    config = types.GenerateContentConfig(
        temperature=0.2, max_output_tokens=5, system_instruction="Be short", labels={"team": "x"}
    )
    (line,) = build(["Hello"], Defaults(generation_config=config))
    assert line["request"]["generationConfig"] == {"temperature": 0.2, "maxOutputTokens": 5}
    assert line["request"]["labels"]["team"] == "x"


def test_fields_of_a_complete_request_override_the_defaults() -> None:
    request = {
        "contents": [{"parts": [{"text": "Hello"}]}],
        "generation_config": {"temperature": 1},
        "labels": {"team": "x"},
    }
    defaults = Defaults(generation_config={"temperature": 0, "max_output_tokens": 9}, response_schema=SCHEMA)
    for prompt in (request, {"request": request}, ("k", request)):
        (line,) = build([prompt], defaults)
        config = line["request"]["generationConfig"]
        assert (config["temperature"], config["maxOutputTokens"]) == (1, 9)
        assert config["responseSchema"]["properties"] == {"topic": {"type": "STRING"}}
        assert line["request"]["labels"]["team"] == "x"
        assert line["request"]["contents"][0]["role"] == "user"


def test_templates() -> None:
    Pair = namedtuple("Pair", "title body")

    @dataclass
    class Data:
        title: str
        body: str

    class Model(BaseModel):
        title: str
        body: str

    values = {"title": "T", "body": "{x} {{ y }}"}
    for row in (values, Pair(**values), Data(**values), Model(**values)):
        assert contents(row, template="{title}: {body} {{}}")[0]["parts"] == [{"text": "T: {x} {{ y }} {}"}]
    (line,) = build([{**values, "key": "k", "media_uri": "gs://b/a.pdf"}], template="About {title}")
    assert line["key"] == "k"
    assert line["request"]["contents"][0]["parts"] == [media("gs://b/a.pdf"), {"text": "About T"}]
    assert [line["key"] for line in build([("k9", values)], template="{body}")] == ["k9"]
    assert PromptTemplate("{a} {b} {a}").fields == ("a", "b")


@pytest.mark.parametrize("template", ["no field", "{", "{0}", "{a.b}", "{a!r}", "{a:>5}", "{}"])
def test_invalid_templates(template: str) -> None:
    with pytest.raises(InvalidParameterError, match="template="):
        PromptTemplate(template)


class NotAPrompt(BaseModel):
    secret: str = "the prompt"


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (None, "prompts=None"),
        ("the prompt", "prompts is of type str"),
        (7, "prompts=7"),
        (["ok", ""], r"row 2.*it is empty"),
        (["ok", {1}], r"prompts \(row 2\): prompt is of type set: pass text"),
        (["ok", 7], r"prompts \(row 2\): prompt=7: pass text"),
        ([{"text ": "the prompt"}], r"row 1.*\['text '\]"),
        ([{"prompt": "the prompt", "media_url": "x"}], r"\['media_url'\].*media_uri"),
        ([{"prompt": "the prompt", "media_uri": "gs://b/a"}], "MIME type"),
        ([{"prompt": "the prompt", "media_uri": "a.pdf"}], "gs://bucket/object"),
        (
            [{"prompt": "the prompt", "media_uri": "gs://b/a.pdf", "media_mime_type": ["a", "b"]}],
            "one for each",
        ),
        ([[]], "no parts"),
        ([["the prompt", 7]], "prompt=7"),
        ([{"request": {"contents": []}}], "with 'contents'"),
        (
            [{"contents": [{"parts": [{"text": "the prompt"}]}], "generationConfig": {"seed": {1}}}],
            "not valid JSON",
        ),
        ([{"contents": [{"parts": [{"text": "x"}]}], "seed": float("nan")}], "not valid JSON"),
        ([NotAPrompt()], r"\['secret'\]"),
    ],
)
def test_errors_never_quote_the_prompt(prompts: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message) as caught:
        build(prompts)
    assert "the prompt" not in str(caught.value)


def test_a_row_without_the_templates_field() -> None:
    with pytest.raises(InvalidParameterError, match=r"template='body'.*it has \['title'\]"):
        build([{"title": "x"}], template="{title} {body}")
    with pytest.raises(InvalidParameterError, match="each row must be a mapping"):
        build(["text"], template="{title}")


def test_two_response_schemas() -> None:
    with pytest.raises(InvalidParameterError, match="set either that or response_schema"):
        build(["a"], Defaults(generation_config={"response_schema": SCHEMA}, response_schema=SCHEMA))
    with pytest.raises(InvalidParameterError, match="generation_config=7"):
        build(["a"], Defaults(generation_config=7))


def test_no_response_schema() -> None:
    assert Defaults(response_schema=False).members() == {}


def test_lines_are_made_one_at_a_time() -> None:
    def endless() -> Any:
        number = 0
        while True:
            number += 1
            yield f"prompt {number}"

    lines = build_lines(endless())
    assert [json.loads(next(lines).data)["request"]["contents"][0]["parts"][0]["text"] for _ in range(3)] == [
        "prompt 1",
        "prompt 2",
        "prompt 3",
    ]


def test_built_requests_match_the_discovery_document() -> None:
    discovery = Discovery.load("aiplatform", "v1")
    schema = discovery.schema_named("GenerateContentRequest")
    defaults = Defaults(
        system_instruction="Be short",
        generation_config={"temperature": 0.5, "thinkingConfig": {"thinkingBudget": 0}},
        response_schema=SCHEMA,
        safety_settings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        tools=[{"googleSearch": {"excludeDomains": ["a.com"]}}],
    )
    prompts = ["a", ["b", media("gs://b/a.pdf")], {"prompt": "c", "system_instruction": ["x", "y"]}]
    for line in build(prompts, defaults):
        assert list(discovery.violations(schema, line["request"])) == []


@pytest.mark.parametrize(
    ("rows", "is_said"),
    [
        ([{"custom_id": "a", "text": "x"}, {"custom_id": "b", "text": "y"}], True),
        ([{"custom_id": "a", "text": "x"}, {"custom_id": "a", "text": "y"}], False),
        ([{"key": "k", "custom_id": "a", "text": "x"}, {"custom_id": "b", "text": "y"}], False),
        ([{"body": "a", "text": "x"}], False),
    ],
)
def test_a_key_in_another_field_is_named(
    rows: list[dict[str, str]], is_said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    list(build_lines(rows, Defaults(), template="{text}"))
    assert ("set key_field='custom_id' on all tasks" in caplog.text) is is_said
