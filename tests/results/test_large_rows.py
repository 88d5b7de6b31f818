"""Rows near BigQuery's limit of 100 MB, and above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.results.outputs import Objects
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.staging import reference
from tests.results.lines import answered, asked

if TYPE_CHECKING:
    from tests.results.conftest import Lander

LARGE = 30_000_000
TOO_LARGE = 100 * 1024**2 + 1


def test_an_answer_of_30_mb_lands(lander: Lander) -> None:
    lander.put_input(asked("large"), asked("small"))
    lander.put_output(answered("large", "x" * LARGE), answered("small"))
    assert lander.land().counts[RowStatus.SUCCEEDED] == 2
    rows = lander.query(
        "SELECT key, LENGTH(text) AS size, LENGTH(TO_JSON_STRING(response)) > LENGTH(text) AS is_whole "
        f"FROM {lander.destination.quoted}"
    )
    found = {row["key"]: (row["size"], row["is_whole"]) for row in rows}
    assert found == {"large": (LARGE, True), "small": (5, True)}


def test_a_line_of_more_than_100_mb_is_malformed_and_the_others_land(lander: Lander) -> None:
    """The error row says where the line is. Landing again, on a table that an earlier try has filled, too."""
    lander.put_input(asked("a"), asked("large"), asked("b"))
    first = answered("a")
    lander.put_output(first, answered("large", "x" * TOO_LARGE), answered("b"))
    manifest = lander.land()
    assert lander.statuses() == {"a": "succeeded", "b": "succeeded", "large": "malformed"}
    assert (manifest.input_rows, manifest.rows) == (3, 3)
    place = f"gs://{lander.bucket}/{lander.directory}/predictions.jsonl, at byte {len(first) + 1}"
    line = f"BigQuery does not load this line, which is larger than 100 MB: {place}"
    assert lander.errors()["large"]["raw_line"] == line
    assert lander.land().counts == manifest.counts


ONE, MANY = (Objects(tuple((f"gs://b/{name}", 1) for name in names)) for names in ("a", "ab"))
ERROR = "Error while reading data, error message: "


@pytest.mark.parametrize(
    ("message", "objects", "place"),
    [
        ("", ONE, "gs://b/a"),
        ("", MANY, "one of the objects beside gs://b/a"),
        (
            f"{ERROR}JSON parsing error in row starting at position 17: Row size is larger than: 104857600. "
            "File: gs://b/b",
            MANY,
            "gs://b/b, at byte 17",
        ),
        (f"{ERROR}Too large; byte_offset_to_start_of_line: 9 File: gs://b/a", MANY, "gs://b/a, at byte 9"),
        (f"{ERROR}Too large; position 9", ONE, "gs://b/a, at byte 9"),
        (f"{ERROR}Too large; position 9", MANY, "one of the objects beside gs://b/a"),
        (f"{ERROR}Too large. File: gs://else/where", ONE, "gs://b/a"),
    ],
)
def test_where_a_line_is(message: str, objects: Objects, place: str) -> None:
    assert reference(message, objects).endswith(f"larger than 100 MB: {place}")
