"""The corpus of input files: the check's finding on each matches what a job does with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.import_check import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_gemini_batch.requests.checking.findings import FindingGroup, Report

    # As conftest.py makes it: this folder is no package, its name is that of a library.
    RunJob = Callable[..., Any]

CORPUS = Path(__file__).parent / "corpus"
BAD = sorted((CORPUS / "bad").glob("*.jsonl"))
GOOD = sorted((CORPUS / "good").glob("*.jsonl"))
# The two parsers word their errors differently.
PARSER = {"not-json", "not-utf8", "bom", "lone-surrogate", "not-an-object"}
MODEL, STRICTER_MODEL = "gemini-3.5-flash", "gemini-3.7-flash"


def name_of(path: Path) -> str:
    return path.stem


def model_of(path: Path) -> str:
    """Return the model that a file is meant for."""
    by_model = ("refused-by-model", "thinking-level", "level-and-budget", "max-output-tokens")
    if "embedding" in path.stem:
        return "gemini-embedding-2"
    return STRICTER_MODEL if path.stem.startswith(by_model) else MODEL


def report_of(path: Path) -> Report:
    with path.open("rb") as lines:
        return check(lines, model=model_of(path))


def expected(path: Path) -> FindingGroup:
    """Return the finding that a bad file is named after."""
    rule = path.stem.split("__")[0]
    found = [group for group in report_of(path).groups if group.rule == rule]
    assert found, f"{path.name}: {[group.rule for group in report_of(path).groups]}"
    return found[0]


def test_the_corpus_is_large_enough() -> None:
    assert len(BAD) >= 60
    assert len(GOOD) >= 40
    assert len({path.stem.split("__")[0] for path in BAD}) >= 20


@pytest.mark.parametrize("path", BAD, ids=name_of)
def test_a_bad_file_fails_for_the_reason_that_was_found(path: Path, run_job: RunJob) -> None:
    found, job = expected(path), run_job(path.read_bytes(), model_of(path))
    if found.level is Level.JOB:
        assert job.state == "JOB_STATE_FAILED"
        assert job.error["code"] == 3
        assert job.error["message"].startswith("Failed to import data.")
        message = "JSON parsing error" if found.rule in PARSER else found.message
        assert message in job.error["message"]
        assert job.rows == []
    else:
        assert job.state == "JOB_STATE_SUCCEEDED"
    if found.level is Level.ROW:
        failed = {row["key"]: row["status"] for row in job.rows if row.get("status")}
        assert set(failed) == {finding.key for finding in found.first}
        for status in failed.values():
            error = json.loads(status.removeprefix("Bad Request: "))["error"]
            assert error["code"] == 400
            assert found.message in error["message"]


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_a_good_file_passes_the_check_and_its_job_succeeds(path: Path, run_job: RunJob) -> None:
    report, job = report_of(path), run_job(path.read_bytes(), model_of(path))
    assert report.is_fine(), report.groups
    assert job.state == "JOB_STATE_SUCCEEDED", job.error
    assert len(job.rows) == report.rows
    assert [row["status"] for row in job.rows if row.get("status")] == []


def bad(prefix: str) -> list[Path]:
    return [path for path in BAD if path.stem.startswith(prefix)]


@pytest.mark.parametrize("path", bad("number-like-key"), ids=name_of)
def test_a_key_that_looks_like_a_number_comes_back_changed(path: Path, run_job: RunJob) -> None:
    (row,) = run_job(path.read_bytes()).rows
    assert row["key"] != expected(path).first[0].key


@pytest.mark.parametrize("path", bad("duplicate-key"), ids=name_of)
def test_results_of_one_key_cannot_be_told_apart(path: Path, run_job: RunJob) -> None:
    rows = run_job(path.read_bytes()).rows
    keys = {row.get("key") or row["request"]["labels"]["gemini_batch_key"] for row in rows}
    assert (len(rows), len(keys)) == (2, 1)


@pytest.mark.parametrize("path", bad("ignored-beside-request"), ids=name_of)
def test_fields_next_to_the_request_are_copied_and_ignored(path: Path, run_job: RunJob) -> None:
    (row,) = run_job(path.read_bytes(), model_of(path)).rows
    (name,) = set(row) - {"key", "request", "status", "response", "processed_time"}
    assert expected(path).path == f"$.{name}"
    assert name not in row["request"]


def test_no_finding_quotes_a_prompt() -> None:
    for path in BAD:
        assert "river" not in json.dumps(report_of(path).to_dict()), path.name


def test_every_rule_has_a_bad_file_and_a_fix() -> None:
    from airflow_gemini_batch.requests.checking import (
        embedding_rules,
        import_check,
        inferred_columns,
        model_rules,
        parsed_line,
        request_rules,
    )
    from airflow_gemini_batch.requests.checking.findings import Rule

    modules = (embedding_rules, import_check, inferred_columns, model_rules, parsed_line, request_rules)
    rules = {rule.name: rule for m in modules for rule in vars(m).values() if isinstance(rule, Rule)}
    # Their files would be too large for the repository; they have their own tests.
    large = {"too-many-rows", "too-large"}
    advice = {name for name, rule in rules.items() if rule.level is Level.ADVICE}
    assert {path.stem.split("__")[0] for path in BAD} == set(rules) - large - advice
    assert all(rule.fix.endswith(".") for rule in rules.values())
