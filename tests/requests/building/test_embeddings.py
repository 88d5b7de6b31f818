"""Request lines for embedding models from prompts in all accepted forms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.genai import types  # noqa: TID253 - users pass its objects
from hypothesis import given
from hypothesis import strategies as st

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.building.build import Defaults, build_lines
from airflow_gemini_batch.requests.building.media import media
from airflow_gemini_batch.requests.checking.import_check import check

MODEL = "gemini-embedding-001"
CONFIG = {"output_dimensionality": 768, "task_type": "RETRIEVAL_DOCUMENT"}
AS_REST = {"outputDimensionality": 768, "taskType": "RETRIEVAL_DOCUMENT"}
TEXT = {"parts": [{"text": "Hello"}]}


def build(prompts: Any, config: Any = None, model: str | None = MODEL, **more: Any) -> list[dict[str, Any]]:
    lines = list(build_lines(prompts, Defaults(model=model, embedding_config=config), **more))
    assert check([line.data for line in lines], model=MODEL).groups == ()
    return [json.loads(line.data) for line in lines]


def request(prompt: Any, config: Any = None, **more: Any) -> Any:
    (line,) = build([prompt], config, **more)
    return line["request"]


def test_text_has_no_label_and_no_role() -> None:
    (line,) = build(["Hello"], CONFIG)
    assert line["request"] == {"content": TEXT, "embedContentConfig": AS_REST}
    assert set(line) == {"key", "request"}
    assert build(["Hello"])[0] == {"key": line["key"], "request": {"content": TEXT}}


@given(st.text(min_size=1), st.sampled_from([None, 'k\u00e9y "1"']))
def test_any_text_arrives_as_it_is(text: str, key: str | None) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    defaults = Defaults(model=MODEL, embedding_config=CONFIG)
    (line,) = build_lines([text if key is None else (key, text)], defaults)
    document = json.loads(line.data)
    assert document["request"]["content"]["parts"] == [{"text": text}]
    assert document["key"] == line.key == (key or line.key)
    assert len(line.data.decode().splitlines()) == 1


PNG = {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}


@pytest.mark.parametrize(
    ("prompt", "content"),
    [
        (("k1", "Hello"), TEXT),
        (["Hello", media("gs://b/a.png")], {"parts": [{"text": "Hello"}, PNG]}),
        (("k1", ["Hello", media("gs://b/a.png")]), {"parts": [{"text": "Hello"}, PNG]}),
        ({"key": "k1", "prompt": "Hello"}, TEXT),
        ({"prompt": "Hello", "media_uri": "gs://b/a.png"}, {"parts": [PNG, {"text": "Hello"}]}),
        ({"content": TEXT}, TEXT),
        ({"key": "k1", "request": {"content": {"parts": "Hello"}}}, TEXT),
        ({"contents": [{"role": "user", **TEXT}]}, TEXT),
        (types.Content(parts=[types.Part(text="Hello")]), TEXT),
        (types.Content(role="user", parts=[types.Part(text="Hello")]), TEXT),
    ],
)
def test_prompts(prompt: Any, content: Any) -> None:
    found = request(prompt, types.EmbedContentConfig(output_dimensionality=768))
    assert found == {"content": content, "embedContentConfig": {"outputDimensionality": 768}}


def test_a_title_for_each_row() -> None:
    titled = {**AS_REST, "title": "Greeting"}
    row = {"title": "Greeting", "text": "Hello", "key": "k1"}
    assert request({"prompt": "Hello", "title": "Greeting"}, CONFIG)["embedContentConfig"] == titled
    assert request(row, CONFIG, template="{text}") == {"content": TEXT, "embedContentConfig": titled}
    # It is in the text already.
    assert request(row, CONFIG, template="{title}: {text}")["embedContentConfig"] == AS_REST
    assert request({"prompt": "Hello", "title": None}, CONFIG)["embedContentConfig"] == AS_REST
    assert request(row, {**CONFIG, "title": "All"}, template="{text}")["embedContentConfig"] == titled


def test_rows_of_one_text_and_two_titles_have_keys_of_their_own() -> None:
    rows = [{"prompt": "Hello", "title": title} for title in ("a", "b")]
    assert len({line["key"] for line in build(rows, CONFIG)}) == 2


def test_values_of_a_request_win_in_either_spelling() -> None:
    for own in (
        {"embed_content_config": {"output_dimensionality": 12}},
        {"embedContentConfig": {"outputDimensionality": 12}},
    ):
        found = request({"content": TEXT, **own}, CONFIG)
        assert found["embedContentConfig"] == {**AS_REST, "outputDimensionality": 12}


def test_a_config_tells_what_a_model_that_is_not_named_takes() -> None:
    assert "content" in request("Hello", CONFIG, model=None)
    assert "content" in request("Hello", CONFIG, model="gemini-9-vectors")
    assert "content" in request("Hello", model="gemini-embedding-9")
    (line,) = build_lines(["Hello"], Defaults(model="gemini-9-flash"))
    assert "contents" in json.loads(line.data)["request"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("system_instruction", "Be brief."),
        ("generation_config", {"temperature": 0}),
        ("response_schema", {"type": "object", "properties": {"a": {"type": "string"}}}),
        ("safety_settings", [{"category": "HARM_CATEGORY_HARASSMENT"}]),
        ("tools", [{"google_search": {"timeRangeFilter": None}}]),
    ],
)
def test_what_is_only_for_generation_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(
        InvalidParameterError, match=f"{name} is set: {MODEL} answers with vectors; leave {name} out"
    ):
        Defaults(model=MODEL, **{name: value}).members()


def test_no_schema_is_no_schema() -> None:
    assert Defaults(model=MODEL, response_schema=False).members() == {}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dimensions": 768}, "embedding_config has .*dimensions.*the fields are .*outputDimensionality"),
        (
            {"output_dimensionality": 0},
            "output_dimensionality.*=0: give the length of the vectors.*1 to 3072",
        ),
        ({"output_dimensionality": 3073}, "=3073"),
        ({"output_dimensionality": "768"}, "='768'"),
        ({"output_dimensionality": True}, "=True"),
        ({"task_type": "SEARCH"}, "task_type.*='SEARCH': give one of RETRIEVAL_QUERY, RETRIEVAL_DOCUMENT"),
        ([768], "embedding_config is of type list: give a dict"),
    ],
)
def test_a_config_that_cannot_work(config: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        Defaults(model=MODEL, embedding_config=config).members()


def test_a_config_that_the_model_ignores_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    Defaults(model="gemini-embedding-2", embedding_config=CONFIG).members()
    assert "gemini-embedding-2 ignores these fields of embedding_config: taskType" in caplog.text
    caplog.clear()
    Defaults(model=MODEL, embedding_config=CONFIG).members()
    assert caplog.text == ""


def test_titles_that_the_model_ignores_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"prompt": "Hello"}, {"prompt": "A", "title": "B"}, {"prompt": "C", "title": "D"}]
    lines = list(build_lines(rows, Defaults(model="gemini-embedding-2")))
    assert caplog.messages == [
        "gemini-embedding-2 ignores the titles of rows. Write the title into the text: `title: … | text: …`."
    ]
    assert json.loads(lines[1].data)["request"]["embedContentConfig"] == {"title": "B"}
    caplog.clear()
    list(build_lines(rows, Defaults(model=MODEL)))
    list(build_lines(rows[:1], Defaults(model="gemini-embedding-2")))
    assert caplog.text == ""


def test_a_config_for_a_model_that_generates() -> None:
    with pytest.raises(InvalidParameterError, match=r"embedding_config=.*gemini-3\.5-flash generates"):
        Defaults(model="gemini-3.5-flash", embedding_config=CONFIG).members()


def test_an_older_model_is_refused_before_requests_are_built() -> None:
    with pytest.raises(InvalidParameterError, match=r"model='text-embedding-005'.*use gemini-embedding-001"):
        build_lines(["Hello"], Defaults(model="text-embedding-005"))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "row 1.*it is empty"),
        ({"prompt": "Hello", "system_instruction": "Be brief."}, "row 1.*system_instruction.*takes none"),
        ({"prompt": "Hello", "day": 1}, "row 1.*day"),
        ({"content": {}}, "row 1.*give 'content' with 'parts'"),
        ({"contents": [TEXT, TEXT]}, "row 1.*2 contents.*takes one content"),
        ({"contents": [TEXT], "tools": []}, "row 1.*tools.*does not generate"),
        (7, "row 1.*prompt=7: "),
    ],
)
def test_prompts_that_cannot_be_embedded(prompt: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message) as error:
        build([prompt], CONFIG)
    assert "Hello" not in str(error.value)
