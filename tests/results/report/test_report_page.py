"""The report of a job with 10,000 rows, in a real browser."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.faults.plan import FaultPlan, RowFault, RowFaultKind
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from tests.results.report.chromium import layout, screenshot
from tests.task_instance import TaskInstance

if TYPE_CHECKING:
    from google.cloud import storage

    from airflow_gemini_batch.emulator.server import Emulator

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

ROWS = 10_000
SCHEMA = {
    "type": "object",
    "properties": {"topic": {"type": "string"}, "summary": {"type": "string"}},
    "required": ["topic", "summary"],
}
FAULTS = FaultPlan(
    rows=[
        RowFault(kind=RowFaultKind.EXHAUSTED, probability=0.03),
        RowFault(kind=RowFaultKind.REFUSED, probability=0.002),
        RowFault(kind=RowFaultKind.DROPPED, probability=0.004),
        RowFault(kind=RowFaultKind.CORRUPT, probability=0.001),
        RowFault(kind=RowFaultKind.DOUBLED, probability=0.001),
    ],
    seed=5,
)


def line(number: int) -> str:
    """A request; one in a hundred has too few tokens for its response, and all differ in length."""
    words = ("tea", "cup", "leaf", "water", "kettle", "spoon", "honey", "morning")
    length = 20 + number * 7919 % 41 + number * 104_729 % 37 + number * 1_299_709 % 31
    review = " ".join(words[place * (number % 7 + 1) % 8] for place in range(length))
    text = f"Which topic is this review about? Sum it up in a sentence.\n\nAbout the {review}."
    config: dict[str, Any] = {"responseMimeType": "application/json", "responseSchema": SCHEMA}
    config["maxOutputTokens"] = 3 if number % 100 == 0 else 1000
    request = {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}
    return json.dumps({"key": f"review-{number:05}", "request": request})


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that the results operator writes."""
    vertex: Emulator = request.getfixturevalue("stack").vertex
    client: storage.Client = request.getfixturevalue("storage_client")
    bigquery = request.getfixturevalue("bigquery_client")
    vertex.clear()
    vertex.faults = FAULTS
    bucket = client.create_bucket("report-page")
    bigquery.create_dataset(f"{bigquery.project}.report_page")
    bucket.blob("in.jsonl").upload_from_string("".join(line(number) + "\n" for number in range(ROWS)))
    context: Any = {
        "ti": TaskInstance(task_id="land", dag_id="reviews", run_id="scheduled__2026-11-01T00:00:00+00:00")
    }
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri="gs://report-page/in.jsonl",
        output_uri="gs://report-page/out",
        location="global",
        wait_for_completion=True,
        deferrable=False,
        poll_interval=0.2,
    )
    GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=submit.execute(context),
        destination_table="report_page.reviews",
        response_schema=SCHEMA,
        report_uri="gs://report-page/report.html",
        deferrable=False,
    ).execute(context)
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_bytes(bucket.blob("report.html").download_as_bytes())
    return file


def test_the_page_has_readable_text(page: Path) -> None:
    seen = layout(page, 1000)
    text = " ".join(seen.text.split())
    assert "of 10,000 rows succeeded (" in text
    for words in (
        *("Timeline", "queued", "running", "until landed", "10,000 rows by status", "Finish reasons"),
        *("MAX_TOKENS", "Cost", "total $", "Prompt tokens per row", "Response tokens per row"),
        *("Most frequent errors", "RESOURCE_EXHAUSTED", "may succeed if resubmitted", "review-0"),
        *("malformed", "missing", "truncated", "local-project.report_page.reviews_errors"),
    ):
        assert words in text, words
    assert "kettle" not in page.read_text()
    assert seen.fetched == []


@pytest.mark.parametrize("width", [320, 400, 768, 1440])
def test_nothing_overflows_the_window(page: Path, width: int) -> None:
    seen = layout(page, width)
    assert seen.client == width
    assert seen.scroll <= width, seen.problems
    assert seen.problems == []


def test_screenshots_in_light_and_dark_mode(page: Path) -> None:
    """Set ``REPORT_PNG=docs/report.png`` to recreate the screenshot in the docs."""
    height = layout(page, 1000).height
    pictures = {}
    for scheme in ("light", "dark"):
        png = page.with_name(f"{scheme}.png")
        pictures[scheme] = screenshot(page, png, width=1000, height=height, dark=scheme == "dark")
    for picture in pictures.values():
        assert (picture.width, picture.height) == (1000, height)
        assert picture.height > 1000
        assert picture.colors > 100
        assert picture.commonest < 0.9
    assert pictures["light"].light > 0.85
    assert pictures["dark"].light < 0.25
    if kept := os.environ.get("REPORT_PNG"):
        screenshot(page, Path(kept), width=1000, height=1280, dark=False)
