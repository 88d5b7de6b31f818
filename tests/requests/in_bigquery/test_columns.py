"""Columns of a query that can become requests."""

from __future__ import annotations

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.in_bigquery.columns import RequestColumns, TableColumn


def columns(*, are_embeddings: bool = False, **types: str) -> RequestColumns:
    given = (
        TableColumn(name, kind.removeprefix("ARRAY "), kind.startswith("ARRAY "))
        for name, kind in types.items()
    )
    return RequestColumns.of(given, are_embeddings=are_embeddings)


def test_a_title_is_a_column_of_embeddings() -> None:
    types = {"key": "STRING", "prompt": "STRING", "Title": "STRING"}
    assert columns(**types).passed == ("Title",)
    found = columns(are_embeddings=True, **types)
    assert (set(found.optional), found.passed) == ({"title"}, ())
    complete = columns(are_embeddings=True, key="STRING", request="JSON", title="STRING")
    assert (complete.optional, complete.passed) == ({}, ("title",))


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"system_instruction": "STRING"}, "takes no instructions"),
        ({"title": "ARRAY STRING"}, "title ARRAY<STRING>.*must be STRING"),
        ({"title": "INTEGER"}, "title INTEGER"),
    ],
)
def test_columns_that_embeddings_do_not_have(types: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        columns(are_embeddings=True, key="STRING", prompt="STRING", **types)


def test_columns_are_sorted_by_purpose() -> None:
    found = columns(Key="INTEGER", PROMPT="ARRAY STRING", media_uri="STRING", day="DATE", n="FLOAT")
    assert found.source == TableColumn("PROMPT", "STRING", is_array=True)
    assert set(found.optional) == {"media_uri"}
    assert found.passed == ("day", "n")
    assert columns(key="STRING", request="JSON", prompted="STRING").passed == ("prompted",)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"prompt": "STRING"}, "column 'key'"),
        ({"key": "FLOAT", "prompt": "STRING"}, "key FLOAT.*CAST the key"),
        ({"key": "ARRAY STRING", "prompt": "STRING"}, "key ARRAY<STRING>"),
        ({"key": "STRING"}, "either 'prompt' or 'request'"),
        ({"key": "STRING", "prompt": "STRING", "request": "JSON"}, "either 'prompt' or 'request'"),
        ({"key": "STRING", "prompt": "INTEGER"}, "prompt INTEGER.*STRING, or an ARRAY"),
        ({"key": "STRING", "request": "INTEGER"}, "request INTEGER.*JSON or STRING"),
        ({"key": "STRING", "request": "ARRAY JSON"}, "request ARRAY<JSON>"),
        ({"key": "STRING", "request": "JSON", "media_uri": "STRING"}, "a 'request' is complete"),
        ({"key": "STRING", "prompt": "STRING", "media_mime_type": "STRING"}, "select 'media_uri'"),
        ({"key": "STRING", "prompt": "STRING", "Status": "STRING"}, "sql selects Status:.*input_Status"),
        ({"key": "STRING", "prompt": "STRING", "response": "JSON"}, "sql selects response:"),
        (
            {"key": "STRING", "prompt": "STRING", "tags": "ARRAY STRING"},
            r"tags ARRAY<STRING>.*TO_JSON_STRING\(tags\)",
        ),
        *(
            ({"key": "STRING", "prompt": "STRING", "x": kind}, f"x {kind}.*refuse")
            for kind in ("RECORD", "STRUCT", "RANGE", "DATETIME", "GEOGRAPHY")
        ),
    ],
)
def test_columns_that_batch_jobs_refuse(types: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        columns(**types)
