"""Landing of jobs with input or output in BigQuery tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.exceptions import OutputNotFoundError
from tests.results.lines import answered, asked, request, response

if TYPE_CHECKING:
    from tests.results.conftest import Lander


def test_json_columns(lander: Lander) -> None:
    columns = {"key": "STRING", "request": "JSON"}
    given = [{"key": key, "request": request(key)} for key in ("a", "b", "c")]
    source = lander.put_table("input", columns, given)
    output = [
        {"key": "b", "request": request("b"), "response": response("B"), "status": ""},
        {"key": "a", "request": request("a"), "response": response("A"), "status": ""},
    ]
    place = lander.put_table("output", {**columns, "response": "JSON", "status": "STRING"}, output)
    manifest = lander.land(job=lander.job(input_uris=(source,), output_uri=place, output_location=place))
    assert {key: row["text"] for key, row in lander.rows().items()} == {"a": "A", "b": "B", "c": None}
    assert lander.statuses()["c"] == "missing"
    assert manifest.joined_by["key"] == 2


def test_text_columns_and_a_numeric_key(lander: Lander) -> None:
    """``response`` may be text, keys may be numbers, and a processed time may be there."""
    columns = {"id": "INTEGER", "request": "STRING"}
    given = [{"id": number, "request": json.dumps(request(str(number)))} for number in (1, 2, 3)]
    source = lander.put_table("input", columns, given)
    answers: list[tuple[Any, str]] = [
        (response("one"), ""),
        (None, 'Bad Request: {"error": {"code": 400, "message": "No", "status": "INVALID_ARGUMENT"}}'),
        ("not json", ""),
    ]
    output = [
        {**row, "response": answer if isinstance(answer, str) else json.dumps(answer), "status": status}
        for row, (answer, status) in zip(given, answers, strict=True)
    ]
    kinds = {**columns, "response": "STRING", "status": "STRING"}
    place = lander.put_table("output", kinds, output)
    lander.land(job=lander.job(input_uris=(source,), output_location=place), key_field="id")
    assert lander.statuses() == {"1": "succeeded", "2": "failed", "3": "failed"}
    assert lander.errors()["2"]["error_code"] == 400


def test_no_key_column(lander: Lander) -> None:
    source = lander.put_table("input", {"request": "JSON"}, [{"request": request(t)} for t in ("x", "y")])
    output = [{"request": request("x"), "response": response("X"), "status": ""}]
    place = lander.put_table("output", {"request": "JSON", "response": "JSON", "status": "STRING"}, output)
    manifest = lander.land(job=lander.job(input_uris=(source,), output_location=place))
    assert manifest.joined_by["request"] == 1
    assert sorted(lander.statuses().values()) == ["missing", "succeeded"]


def test_objects_in_and_a_table_out(lander: Lander) -> None:
    lander.put_input(asked("a"))
    row = {"key": "a", "request": request(), "response": response("A"), "status": ""}
    kinds = {"key": "STRING", "request": "JSON", "response": "JSON", "status": "STRING"}
    place = lander.put_table("output", kinds, [row])
    # The job may name only the output_uri that it was created with.
    lander.land(job=lander.job(output_uri=place, output_location=None))
    assert lander.rows()["a"]["text"] == "A"


def test_a_table_in_and_objects_out(lander: Lander) -> None:
    source = lander.put_table(
        "input", {"key": "STRING", "request": "JSON"}, [{"key": "a", "request": request()}]
    )
    lander.put_output(answered("a"))
    assert lander.land(job=lander.job(input_uris=(source,))).joined_by["key"] == 1


def test_an_input_table_that_no_longer_exists(lander: Lander) -> None:
    lander.put_output(answered("a"))
    job = lander.job(input_uris=(f"bq://{lander.dataset}.gone",))
    assert lander.land(job=job).input_rows is None


def test_an_output_table_that_no_longer_exists(lander: Lander) -> None:
    job = lander.job(output_location=f"bq://{lander.dataset}.gone")
    with pytest.raises(OutputNotFoundError, match="does not exist"):
        lander.land(job=job)
