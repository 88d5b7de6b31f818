"""Embedding requests: which kind a row is, and the limits of their jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.models import models
from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.import_check import (
    Check,
    Limits,
    check,
)
from airflow_gemini_batch.service import MAX_EMBEDDINGS, MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_gemini_batch.requests.checking.findings import Report

DOCUMENTED = Path(__file__).parent / "corpus" / "good" / "embedding_as_documented.jsonl"
CONTENT = {"parts": [{"text": "Name a river."}]}


def embedding(**more: Any) -> dict[str, Any]:
    return {"content": CONTENT, **more}


def generation() -> dict[str, Any]:
    return {"contents": [{"role": "user", **CONTENT}]}


def checked(*requests: dict[str, Any], **more: Any) -> Report:
    lines = [json.dumps({"key": f"k{n}", "request": each}).encode() for n, each in enumerate(requests)]
    return check(lines, **more)


def rules(report: Report) -> list[str]:
    return [group.rule for group in report.groups]


@pytest.mark.parametrize(
    ("model", "ignored"),
    [
        (None, []),
        ("gemini-embedding-001", []),
        ("publishers/google/models/gemini-embedding-2", ["task_type", "title"]),
    ],
)
def test_the_documented_lines_are_fine(model: str | None, ignored: list[str]) -> None:
    with DOCUMENTED.open("rb") as lines:
        report = check(lines, model=model)
    assert report.is_fine()
    assert sorted(group.path.rpartition(".")[2] for group in report.groups) == ignored
    assert set(rules(report)) == {"ignored-by-model" for _ in ignored}
    fixes = {group.path.rpartition(".")[2]: group.first[0].fix for group in report.groups}
    assert not ignored or fixes["title"] == "Write the title into the text: `title: … | text: …`."


@pytest.mark.parametrize("model", ["projects/p/locations/l/endpoints/1", "publishers/x/models/y", "gemini-9"])
def test_of_a_model_that_is_not_known_either_kind_is_fine(model: str) -> None:
    assert checked(embedding(), generation(), model=model).groups == ()


@pytest.mark.parametrize(
    ("request_", "model", "fix"),
    [
        (embedding(), "gemini-3.5-flash", "gemini-3.5-flash generates and takes `contents`."),
        (generation(), "gemini-embedding-2", "gemini-embedding-2 answers with vectors and takes `content`."),
        # Its name tells what it is.
        (generation(), "gemini-embedding-9", "gemini-embedding-9 answers with vectors"),
    ],
)
def test_a_request_for_the_other_kind_of_model(request_: dict[str, Any], model: str, fix: str) -> None:
    (group,) = checked(request_, model=model).groups
    assert (group.rule, group.level) == ("wrong-kind", Level.ROW)
    assert group.fix.startswith(fix)


def test_both_kinds_in_one_file_are_each_checked_by_their_own_rules() -> None:
    assert checked(embedding(), generation()).groups == ()
    assert rules(checked(embedding(), generation(), model="gemini-embedding-001")) == ["wrong-kind"]


def test_a_request_without_a_prompt_lacks_what_its_model_takes() -> None:
    assert rules(checked({"model": "x"}, model="gemini-embedding-001")) == ["no-content"]
    assert rules(checked({"labels": {"a": "b"}}, model="gemini-3.5-flash")) == ["no-contents"]


@pytest.mark.parametrize("length", [0, -1, 3073, "3073", 3073.0])
def test_a_length_is_looked_at_in_every_row(length: Any) -> None:
    """Numbers are not part of the shape of a line otherwise."""
    good = [embedding(embedContentConfig={"outputDimensionality": each}) for each in (1, 768, 3072)]
    bad = embedding(embedContentConfig={"outputDimensionality": length})
    (group,) = [each for each in checked(*good, bad).groups if each.level is Level.ROW]
    assert (group.rule, group.count, group.first[0].line) == ("bad-dimensionality", 1, 4)
    assert group.path == "$.request.embedContentConfig.outputDimensionality"


def test_a_title_for_another_task_is_advice() -> None:
    report = checked(
        embedding(embed_content_config={"title": "a title", "task_type": "CLUSTERING"}),
        embedding(embed_content_config={"title": "a title", "task_type": "RETRIEVAL_DOCUMENT"}),
    )
    assert rules(report) == ["unused-title"]
    assert report.is_fine()


def many(rows: int) -> Iterator[bytes]:
    line = DOCUMENTED.read_bytes().split(b"\n")[0]
    return (line.replace(b"id_1", b"id_%d" % number) for number in range(rows))


@pytest.mark.parametrize("model", [None, "gemini-embedding-001"])
def test_more_embeddings_than_a_job_of_another_model_takes(model: str | None) -> None:
    report = check(many(MAX_ROWS + 1), model=model)
    assert report.groups == ()
    assert report.rows == 200_001


def test_a_million_embeddings_is_the_limit() -> None:
    known = [model for model in models().models.values() if model.is_embedding]
    assert {model.max_rows for model in known} == {MAX_EMBEDDINGS} == {1_000_000}
    assert Limits.of("gemini-embedding-001").rows == MAX_EMBEDDINGS
    assert Limits.of("gemini-embedding-9", is_embedding=True).rows == MAX_EMBEDDINGS
    assert Limits.of("gemini-3.5-flash", is_embedding=True).rows == Limits.of(None).rows == MAX_ROWS


def test_one_row_that_generates_makes_it_the_limit_of_other_models() -> None:
    checker = Check()
    checker.add_all(many(MAX_ROWS))
    checker.add(json.dumps({"key": "g", "request": generation()}).encode())
    (group,) = checker.report().groups
    assert (group.rule, group.message) == (
        "too-many-rows",
        "The input has 200,001 rows; a job takes 200,000.",
    )
