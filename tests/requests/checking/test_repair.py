"""Repairs keep the meaning of a line and change nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_gemini_batch.requests.checking.import_check import check
from airflow_gemini_batch.requests.checking.repair import Repair

CORPUS = Path(__file__).parent / "corpus"


def row(**request: Any) -> dict[str, Any]:
    return {"key": "k1", "request": {"contents": [{"parts": [{"text": "Où ?"}]}], **request}}


def repaired(**request: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the repaired request and the rules that changed it."""
    repair = Repair()
    line = repair.line(json.dumps(row(**request)).encode() + b"\n")
    assert line.endswith(b"}\n")
    return json.loads(line)["request"], sorted({group.rule for group in repair.report().groups})


def schema_after(schema: Any, name: str = "responseJsonSchema") -> tuple[Any, list[str]]:
    request, rules = repaired(generationConfig={name: schema})
    return request["generationConfig"][name], rules


@pytest.mark.parametrize(
    ("name", "member"), [("googleSearch", "excludeDomains"), ("google_search", "exclude_domains")]
)
def test_an_empty_search_excludes_nothing(name: str, member: str) -> None:
    request, rules = repaired(tools=[{"functionDeclarations": [{"name": "f"}]}, {name: {}}])
    assert request["tools"][1] == {name: {member: []}}
    assert rules == ["empty-google-search"]
    line = json.dumps({"key": "k", "request": request}).encode()
    assert check([line]).groups == ()


def test_references_are_inlined() -> None:
    schema = {
        "$defs": {
            "Point": {
                "type": "object",
                "properties": {"x": {"type": "number"}, "unit": {"$ref": "#/$defs/Unit"}},
            },
            "Unit": {"type": "string", "enum": ["m", "km"]},
        },
        "type": "object",
        "properties": {
            "from": {"$ref": "#/$defs/Point", "description": "Where it begins."},
            "to": {"type": "array", "items": {"$ref": "#/$defs/Point"}},
        },
        "required": ["from"],
    }
    unit = {"type": "string", "enum": ["m", "km"]}
    point = {"type": "object", "properties": {"x": {"type": "number"}, "unit": unit}}
    after, rules = schema_after(schema)
    assert after == {
        "type": "object",
        "properties": {
            "from": {**point, "description": "Where it begins."},
            "to": {"type": "array", "items": point},
        },
        "required": ["from"],
    }
    assert rules == ["inline-ref"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}},
        {"$ref": "#/$defs/B", "$defs": {"A": {"type": "string"}}},
        {"$ref": "https://example.com/schema"},
        # Both types would apply, which no single schema can express.
        {"$ref": "#/$defs/A", "type": "integer", "$defs": {"A": {"type": "string"}}},
    ],
)
def test_a_schema_with_a_reference_that_cannot_be_inlined_is_left_as_it_is(schema: dict[str, Any]) -> None:
    schema = {**schema, "title": None}
    assert schema_after(schema) == (schema, [])


def test_references_that_grow_exponentially_are_left() -> None:
    two = [{"$ref": f"#/$defs/A{n + 1}"} for n in range(40)]
    defs = {f"A{n}": {"anyOf": [two[n], two[n]]} for n in range(40)} | {"A40": {"type": "string"}}
    schema = {"$ref": "#/$defs/A0", "$defs": defs}
    assert schema_after(schema) == (schema, [])


def test_keywords_without_effect_are_removed() -> None:
    schema = {
        "type": "object",
        "title": None,
        "required": [],
        "properties": {"a": {"type": "array", "items": {}, "default": None}, "title": {"type": "string"}},
    }
    after, rules = schema_after(schema)
    assert after == {"type": "object", "properties": {"a": {"type": "array"}, "title": {"type": "string"}}}
    assert rules == ["empty-keyword", "null-keyword"]


@pytest.mark.parametrize(
    "schema",
    [
        # In JSON Schema, an empty enum and `not: {}` allow nothing, and a null constant means null.
        {"type": "object", "properties": {"a": {"enum": []}}},
        {"type": "object", "properties": {"a": {"not": {}}}},
        {"type": "object", "properties": {"a": {"const": None}}},
        # A property of any type differs from no property.
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"type": ["string", "integer"]}}},
        {"type": "object", "properties": {"a": {"default": {"b": None}}}},
        # Without its only keyword it would be an empty object, which the import rejects as well.
        {"type": "object", "properties": {"a": {"anyOf": [{"enum": ["x"]}, {"enum": None}]}}},
    ],
)
def test_keywords_with_an_effect_stay(schema: dict[str, Any]) -> None:
    assert schema_after(schema) == (schema, [])


def test_a_type_or_null_in_the_service_s_own_schema() -> None:
    schema = {"type": "OBJECT", "properties": {"a": {"type": ["STRING", "null"], "enum": ["x", None]}}}
    after, rules = schema_after(schema, "responseSchema")
    assert after["properties"] == {"a": {"type": "STRING", "enum": ["x"], "nullable": True}}
    assert rules == ["nullable-type"]


def test_a_type_or_null_in_json_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "maxLength": 5, "description": "Short."},
            "b": {"type": ["null", "string"], "enum": ["x", None]},
            "c": {"type": ["string", "null"], "enum": ["x"]},
        },
    }
    null = {"type": "null"}
    after, _ = schema_after(schema)
    assert after["properties"] == {
        "a": {"anyOf": [{"type": "string", "maxLength": 5}, null], "description": "Short."},
        "b": {"anyOf": [{"type": "string", "enum": ["x"]}, null]},
        "c": {"type": "string", "enum": ["x"]},
    }


def test_schemas_of_functions_are_schemas() -> None:
    function = {
        "name": "f",
        "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING", "enum": []}}},
    }
    request, rules = repaired(tools=[{"functionDeclarations": [function]}])
    parameters = request["tools"][0]["functionDeclarations"][0]["parameters"]
    assert parameters == {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}
    assert rules == ["empty-keyword"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"key":"k",  "request":{"contents":[], "labels":{}, "tools":[{"url_context":{}}]}}\r\n',
        b"not json\n",
        b"\xff\n",
        b"\n",
        b"[1]",
        b'{"request": "googleSearch"}',
        b'{"request": {"contents": [{"parts": [{"functionCall": {"args": {"googleSearch": {}}}}]}]}}',
    ],
)
def test_other_lines_stay_byte_for_byte(line: bytes) -> None:
    repair = Repair()
    assert repair.line(line) == line
    assert repair.report().groups == ()


def test_the_end_of_a_line_and_its_characters_stay() -> None:
    text = '{"key": "k", "request": {"tools": [{"googleSearch": {}}], "a": "Où\u2028", "b": "\\ud800"}}'
    line = Repair().line(text.encode() + b"\r\n")
    assert line.endswith(b"}\r\n")
    assert json.loads(line)["request"]["a"] == "Où\u2028"
    assert json.loads(line)["request"]["b"] == "\ud800"


def test_a_report_names_line_key_and_path() -> None:
    repair = Repair()
    repair.line(json.dumps(row()).encode())
    repair.line(json.dumps(row(tools=[{"google_search": {}}])).encode())
    (group,) = repair.report().groups
    assert (group.first[0].line, group.first[0].key) == (2, "k1")
    assert group.first[0].path == "$.request.tools[0].google_search"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*.jsonl")), ids=lambda path: path.stem)
def test_a_repair_adds_no_findings_and_is_idempotent(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    repaired = list(map(Repair().line, lines))
    assert list(map(Repair().line, repaired)) == repaired
    before = {group.rule for group in check(lines).groups}
    assert {group.rule for group in check(repaired).groups} <= before
    if path.parent.name == "good" and "type_lists" not in path.stem:
        assert repaired == lines


@pytest.mark.parametrize(
    "name", ["bad-name__defs_and_ref", "empty-object__google_search", "empty-object__in_one_line_of_many"]
)
def test_a_repaired_copy_has_no_findings(name: str) -> None:
    with (CORPUS / "bad" / f"{name}.jsonl").open("rb") as lines:
        assert check(map(Repair().line, lines)).groups == ()
