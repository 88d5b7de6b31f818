from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gemini_batch.batch_job import BatchJob
from airflow_gemini_batch.exceptions import ApiError
from airflow_gemini_batch.messages import without_quoted_text

NAMES = [
    "Permission 'aiplatform.batchPredictionJobs.create' denied on resource "
    "'//aiplatform.googleapis.com/projects/p-1/locations/us-central1' (or it may not exist).",
    "Publisher Model `projects/p/locations/global/publishers/google/models/gemini-9` was not found",
    "Cannot store struct 'request.tools.google_search' with no fields",
    'Invalid field name "$defs"',
    "Invalid value at 'contents[0].parts' (type.googleapis.com/google.cloud.Part)",
    "Model 'gemini-2.5-flash' is not available",
    "Not found: Table `my-project.ds.table`",
    'Unknown name "responseSchema": Cannot find field.',
    "The dataset doesn't exist, and users' tables aren't there",
    "Not found: URI gs://bucket/object",
    "",
]
TEXT = "zebra"
CUT = [
    ("input 'zebra' is not allowed", "input '…' is not allowed"),
    ("input 'zebra-prompt-4711' is not allowed", "input '…' is not allowed"),
    ('the text "zebra crossing" is bad', 'the text "…" is bad'),
    ("the text “zebra” is bad", "the text “…” is bad"),
    ("the text ‘zebra’ is bad", "the text ‘…’ is bad"),
    ("the text `zebra` is bad", "the text `…` is bad"),
    ("the text «zebra» is bad", "the text «…» is bad"),
    ("'I can't see the zebra' is bad", "'…' is bad"),
    ("'the dogs' zebra' is bad", "'…' is bad"),
    ('"say "zebra" twice" is bad', '"…" is bad'),
    (r'"say \"zebra\" twice" is bad', '"…" is bad'),
    ("cut off in 'the zeb", "cut off in '…'"),
    ('cut off in "the zebra', 'cut off in "…"'),
    ('{"code": 400, "message": "zebra"}', '{"…"}'),
    ("field 'generation_config' has 'zebra'", "field 'generation_config' has '…'"),
    ("'two\nlines of zebra' are bad", "'…' are bad"),
    ("Bad int64 value: zebra", "Bad int64 value: …"),
    ("Invalid NUMERIC value: zebra; at row 1", "Invalid NUMERIC value: …; at row 1"),
    (
        "Could not convert value zebra to integer. Field: a; Value: zebra",
        "Could not convert value …; Value: …",
    ),
    ("Could not cast literal zebra to type INT64", "Could not cast literal …"),
    ("int64 overflow: 1 + 2", "int64 overflow: …"),
    ("'zebra@example.com' wrote 'x_y'", "'…'"),
]


@pytest.mark.parametrize("message", NAMES)
def test_names_are_kept(message: str) -> None:
    assert without_quoted_text(message) == message


@pytest.mark.parametrize(("message", "shown"), CUT)
def test_text_is_cut(message: str, shown: str) -> None:
    assert without_quoted_text(message) == shown


@given(st.text(max_size=300), st.sampled_from(["''", '""', "``", "“”", "«»"]))
def test_no_prompt_of_two_words_gets_through(prompt: str, quotes: str) -> None:
    secret = f"{prompt} zebra stripes {prompt}"
    shown = without_quoted_text(f"Unable to submit {quotes[0]}{secret}{quotes[1]} since it is bad")
    assert "zebra" not in shown


QUOTING = "Unable to submit request because the text 'zebra' has unsupported characters."


def test_errors_of_the_service_quote_nothing() -> None:
    error = ApiError(400, "INVALID_ARGUMENT", QUOTING)
    assert "zebra" not in f"{error} {error.message} {error!r}"


def test_the_error_of_a_job_quotes_nothing() -> None:
    name = "projects/p/locations/us-central1/batchPredictionJobs/1"
    job = BatchJob.from_resource(
        {"name": name, "state": "JOB_STATE_FAILED", "error": {"code": 3, "message": QUOTING}}
    )
    assert job.error
    assert job.error.message == QUOTING.replace("zebra", "…")
