"""The check and the emulator agree on any file.

The rules of the import, and those of ``contents`` for every model, are implemented twice and independently:
``requests/checking`` and ``emulator/running`` share no code for them, so these tests compare two readings of
the service. Fields and types of a request are checked by the same code, ``gcp/discovery.py``, against
Google's discovery document, and so are the rules by model, ``checking/model_rules.py``; there, these tests
only compare what each side makes of a violation.
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gemini_batch.emulator.protocol.errors import JobFailedError
from airflow_gemini_batch.emulator.running.importer import check_import
from airflow_gemini_batch.emulator.running.rows import Habits, RowProcessor
from airflow_gemini_batch.emulator.running.storage import parse_line
from airflow_gemini_batch.requests.checking.findings import Level, Report
from airflow_gemini_batch.requests.checking.import_check import Limits, check

EXAMPLES = int(os.environ.get("AGREEMENT_EXAMPLES", "80"))
MODEL = "gemini-3.7-flash"
PROCESSOR = RowProcessor(MODEL, 0, Habits())
EMBEDDING_MODEL = "gemini-embedding-2"
EMBEDDER = RowProcessor(EMBEDDING_MODEL, 0, Habits())
LIMITS = Limits(rows=50)
# Few names, so that lines meet at the same paths.
NAMES = st.sampled_from(["a", "b", "c", "text", "role", "request", "enum", "$ref", "1st", "a b"])
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.sampled_from(["", "x", "5"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
# Values for the fields that the model reads: valid, nearly valid and invalid.
ROLES = st.sampled_from(["user", "model", "system", "", None, 5])
TEXTS = st.sampled_from(["Name a river.", "", None, 7])
URIS = st.sampled_from(["x", "", "gs://b/a.png", "https://youtu.be/a", "https://example.com/a.png"])
FILES = st.dictionaries(st.sampled_from(["fileUri", "file_uri", "mimeType", "mime_type"]), URIS)
PARTS = st.one_of(
    st.fixed_dictionaries({"text": TEXTS}),
    st.fixed_dictionaries({"fileData": FILES}),
    st.dictionaries(st.sampled_from(["text", "thought", "nonsense"]), SCALARS, max_size=2),
)
CONTENTS = st.fixed_dictionaries(
    {}, optional={"role": ROLES, "parts": st.lists(PARTS, max_size=2) | PARTS | st.none()}
)
CONFIGS = st.dictionaries(
    st.sampled_from(
        [
            *("temperature", "topK", "top_k", "maxOutputTokens", "max_output_tokens", "seed", "nonsense"),
            *("stopSequences", "presencePenalty", "frequency_penalty"),
        ]
    ),
    SCALARS
    | st.lists(SCALARS, max_size=2)
    | st.sampled_from([2**31, 2**31 - 1, 1.5, 2.0, 1e300, "1.5", 65536, 65537, "65537"]),
    max_size=3,
)
LEVELS = st.sampled_from(["LOW", "minimal", "MINIMAL", "THINKING_LEVEL_UNSPECIFIED", "EXTREME", None])
BUDGETS = st.sampled_from([0, 100, None])
THINKING = st.fixed_dictionaries(
    {},
    optional={
        "thinkingLevel": LEVELS,
        "thinking_level": LEVELS,
        "thinkingBudget": BUDGETS,
        "thinking_budget": BUDGETS,
    },
)
IMAGES = st.fixed_dictionaries(
    {}, optional={"imageSize": st.sampled_from(["1K", "1k", "2K", "512", None, 1])}
)
GENERATION_CONFIGS = st.builds(
    lambda config, more: {**config, **more},
    CONFIGS,
    st.fixed_dictionaries({}, optional={"thinkingConfig": THINKING, "imageConfig": IMAGES}),
)
FUNCTIONS = st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from(["f", "get weather!", "1st", "", None, "a.b:c-d", 5])}
)
RETRIEVALS = st.fixed_dictionaries(
    {},
    optional={
        "vertexRagStore": st.none() | st.just({"ragCorpora": ["a"]}),
        "disableAttribution": st.booleans(),
    },
)
TOOLS = st.one_of(
    st.dictionaries(st.sampled_from(["googleSearch", "google_search"]), VALUES),
    st.fixed_dictionaries({"functionDeclarations": st.lists(FUNCTIONS, max_size=2) | FUNCTIONS}),
    st.fixed_dictionaries({"retrieval": RETRIEVALS}),
)
REQUESTS = st.fixed_dictionaries(
    {"contents": st.lists(CONTENTS, max_size=2) | CONTENTS},
    optional={
        "generationConfig": GENERATION_CONFIGS,
        "generation_config": GENERATION_CONFIGS,
        "cachedContent": st.none() | st.just("projects/1/locations/us/cachedContents/2"),
        "labels": st.dictionaries(NAMES, SCALARS, max_size=2),
        "safetySettings": st.lists(
            st.fixed_dictionaries({"category": st.sampled_from(["HARM_CATEGORY_HARASSMENT", "RUDE", 1])})
        ),
        "tools": st.lists(TOOLS, max_size=2) | TOOLS,
        "responseSchema": SCALARS,
    },
)
LENGTHS = st.sampled_from([None, 0, 1, 3072, 3073, "768", "4000", 768.0, 1.5, 2**31, True, "x", [768]])
EMBED_FIELDS = {
    "outputDimensionality": LENGTHS,
    "output_dimensionality": LENGTHS,
    "taskType": st.sampled_from(["RETRIEVAL_DOCUMENT", "clustering", "SEARCH", None, 1]),
    "title": st.sampled_from(["a title", "", None, 5]),
    "nonsense": SCALARS,
}
EMBED_CONFIGS = st.fixed_dictionaries({}, optional=EMBED_FIELDS) | SCALARS
EMBEDDINGS = st.fixed_dictionaries(
    {},
    optional={
        "content": CONTENTS | st.lists(CONTENTS, max_size=1) | SCALARS,
        "embedContentConfig": EMBED_CONFIGS,
        "embed_content_config": EMBED_CONFIGS,
        "labels": st.dictionaries(NAMES, SCALARS, max_size=2),
        **EMBED_FIELDS,
    },
)
ROWS = st.one_of(
    st.fixed_dictionaries({"request": EMBEDDINGS}),
    st.fixed_dictionaries({"request": REQUESTS}, optional={"a": VALUES, "b": VALUES}),
    st.fixed_dictionaries({"request": VALUES, "a": VALUES}),
)


def lines_of(rows: list[Any]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


def of_emulator(lines: list[bytes]) -> str | None:
    """Return the error of the job, None if it does not fail."""
    try:
        check_import(lines)
    except JobFailedError as error:
        return error.message
    return None


def messages(report: Report, level: Level) -> list[str]:
    return [finding.message for group in report.of_level(level) for finding in group.first]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_both_refuse_the_same_files_for_the_same_reason(rows: list[Any]) -> None:
    lines = lines_of(rows)
    report, failure = check(lines, limits=LIMITS), of_emulator(lines)
    assert report.job_fails == (failure is not None), (failure, report.groups)
    if failure:
        assert any(message in failure for message in messages(report, Level.JOB)), (failure, report.groups)


@settings(max_examples=EXAMPLES, deadline=None)
@given(REQUESTS)
def test_both_refuse_the_same_rows_for_the_same_reason(request: dict[str, Any]) -> None:
    line = json.dumps({"key": "k", "request": request}).encode()
    found = messages(check([line], limits=LIMITS, model=MODEL), Level.ROW)
    row = PROCESSOR.process(parse_line(line, Habits()))
    assert bool(found) == bool(row.status), (found, row.status)
    if found:
        status = json.loads(row.status.removeprefix("Bad Request: "))["error"]["message"]
        assert any(message in status for message in found), (found, status)


@settings(max_examples=EXAMPLES, deadline=None)
@given(EMBEDDINGS | REQUESTS)
def test_both_refuse_the_same_embeddings_for_the_same_reason(request: dict[str, Any]) -> None:
    line = json.dumps({"key": "k", "request": request}).encode()
    found = messages(check([line], limits=LIMITS, model=EMBEDDING_MODEL), Level.ROW)
    row = EMBEDDER.process(parse_line(line, Habits()))
    assert bool(found) == bool(row.status), (found, row.status)
    if found:
        status = json.loads(row.status.removeprefix("Bad Request: "))["error"]["message"]
        assert any(message in status for message in found), (found, status)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,\\ue\n 01-.', max_size=30).map(str.encode))
def test_both_read_the_same_lines(content: bytes) -> None:
    line = b'{"request": {"a": 1}, "b": ' + content.replace(b"\n", b"") + b"}"
    assert check([line], limits=LIMITS).job_fails == (of_emulator([line]) is not None)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6), st.integers(1, 4))
def test_checking_only_one_line_of_each_shape_changes_no_finding(rows: list[Any], times: int) -> None:
    """Further lines of a known shape are not checked; the findings are the same as if they were."""
    lines = lines_of(rows)
    together = check(lines * times, limits=LIMITS, model=MODEL)
    apart = [check([line], limits=LIMITS, model=MODEL) for line in lines]
    for level in (Level.ROW, Level.JOB):
        expected: dict[tuple[str, str], int] = {}
        for report in apart:
            for group in report.of_level(level):
                place = (group.rule, group.path)
                expected[place] = expected.get(place, 0) + group.count * times
        # A file has the findings of its lines, and those on differences between lines.
        found = {(group.rule, group.path): group.count for group in together.of_level(level)}
        assert {place: found.get(place, 0) for place in expected} == expected or level is Level.JOB
        assert set(expected) <= set(found)
        if level is Level.ROW:
            assert found == expected
