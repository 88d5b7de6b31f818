from __future__ import annotations

from typing import Any

import pytest

from airflow_gemini_batch.gcp.discovery import Mismatch, Schemas

SCHEMAS = Schemas(
    {
        "Request": {
            "properties": {
                "topK": {"type": "integer", "format": "int32"},
                "stopWords": {"type": "array", "items": {"type": "string"}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "genConfig": {"$ref": "Config"},
                "turns": {"type": "array", "items": {"$ref": "Config"}},
            }
        },
        "Config": {"properties": {"parentConfig": {"$ref": "Config"}, "isOn": {"type": "boolean"}}},
        "Unused": {},
    }
)


@pytest.mark.parametrize(
    ("message", "mismatch", "field", "path"),
    [
        ({"topk": 1}, Mismatch.UNKNOWN_FIELD, "", ("topk",)),
        ({"gen_config": {"x": 1}}, Mismatch.UNKNOWN_FIELD, "gen_config", ("gen_config", "x")),
        ({"topK": [1]}, Mismatch.NOT_REPEATED, "", ("topK",)),
        ({"topK": 2**31}, Mismatch.WRONG_VALUE, "top_k", ("topK",)),
        ({"topK": "9" * 5000}, Mismatch.WRONG_VALUE, "top_k", ("topK",)),
        ({"stopWords": ["a", 1]}, Mismatch.WRONG_VALUE, "stop_words[1]", ("stopWords", 1)),
        ({"stopWords": 1}, Mismatch.WRONG_VALUE, "stop_words[0]", ("stopWords",)),
        ({"labels": {"a": 1}}, Mismatch.WRONG_VALUE, "labels[a]", ("labels", "a")),
        (
            {"turns": [{"parentConfig": {"is_on": "yes"}}]},
            Mismatch.WRONG_VALUE,
            "turns[0].parent_config.is_on",
            ("turns", 0, "parentConfig", "is_on"),
        ),
    ],
)
def test_a_violation_has_the_path_in_both_spellings(
    message: dict[str, Any], mismatch: Mismatch, field: str, path: tuple[str | int, ...]
) -> None:
    (found,) = SCHEMAS.violations("Request", message)
    assert (found.mismatch, found.field, found.path) == (mismatch, field, path)
    (found,) = SCHEMAS.violations("Request", message, "job")
    assert found.field == "job" + (f".{field}" if field else "")


def test_only_the_schemas_of_a_message_are_reachable_from_it() -> None:
    assert set(SCHEMAS.reachable_from("Request")) == {"Request", "Config"}
    assert set(SCHEMAS.reachable_from("Config")) == {"Config"}
