"""The grammar of list filters."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_gemini_batch.emulator.list_filter import FilterError, compile_filter

JOB = {
    "displayName": "my_job_7",
    "model": "publishers/google/models/gemini-3.5-flash",
    "state": "JOB_STATE_RUNNING",
    "createTime": "2026-05-18T12:00:00.500000Z",
    "labels": {"team": "red", "empty": "", "a_b_2": "1"},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        'display_name="my_job_7"',
        'displayName="my_job_7"',
        "display_name=my_job_7",
        "display_name='my_job_7'",
        'display_name!="other"',
        'display_name:"my_job_*"',
        "display_name:*",
        'display_name = "my_job_7"',
        'model_display_name="gemini-3.5-flash"',
        'state="JOB_STATE_RUNNING"',
        "state=JOB_STATE_RUNNING",
        'state!="JOB_STATE_FAILED"',
        'create_time>"2026-05-18T12:00:00Z"',
        'create_time>="2026-05-18T12:00:00.5Z"',
        'createTime<"2026-05-18T14:00:00.6+02:00"',
        'create_time="2026-05-18T12:00:00.500Z"',
        'create_time!="2026-05-18T12:00:00Z"',
        "labels.team=red",
        'labels.team="red"',
        "labels.team:*",
        "labels.empty:*",
        "labels.a_b_2=1",
        "labels.team!=blue",
        "NOT labels.color:*",
        "-labels.color:*",
        'state="JOB_STATE_RUNNING" AND labels.team=red',
        'state="JOB_STATE_RUNNING" labels.team=red',
        'state="JOB_STATE_FAILED" OR labels.team=red',
        'NOT (state="JOB_STATE_FAILED" OR labels.team=blue)',
        # OR binds more tightly than AND: red AND (failed OR running).
        "labels.team=red AND state=JOB_STATE_FAILED OR state=JOB_STATE_RUNNING",
    ],
)
def test_filters_that_match(text: str) -> None:
    assert compile_filter(text)(JOB)


@pytest.mark.parametrize(
    "text",
    [
        'display_name="my_job_*"',
        'display_name:"my_job"',
        'display_name!="my_job_7"',
        'state="JOB_STATE_FAILED"',
        'create_time<"2026-05-18T12:00:00Z"',
        "labels.team=blue",
        "labels.color:*",
        "labels.color=red",
        "NOT labels.team:*",
        'state="JOB_STATE_RUNNING" AND labels.team=blue',
        "labels.team=blue AND state=JOB_STATE_FAILED OR state=JOB_STATE_RUNNING",
    ],
)
def test_filters_that_do_not_match(text: str) -> None:
    assert not compile_filter(text)(JOB)


def test_a_quoted_value_may_contain_quotes() -> None:
    assert compile_filter(r'display_name="say \"hi\""')({"displayName": 'say "hi"'})


def test_a_job_without_labels() -> None:
    job: dict[str, Any] = {"displayName": "x"}
    assert not compile_filter("labels.team=red")(job)
    assert compile_filter("labels.team!=red")(job)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense=1", "'nonsense' is not supported"),
        ("display_name", "expected operator"),
        ("display_name=", "expected string or word"),
        ('display_name<"a"', "does not support '<'"),
        ("state:RUN*", "not a value of JobState"),
        ('state="RUNNING"', "not a value of JobState"),
        ('create_time>"yesterday"', "RFC 3339"),
        ('create_time:"2026*"', "does not support ':'"),
        ('display_name:"*_7"', "not at the end"),
        ('display_name:"my*7"', "not at the end"),
        ("labels.a-b=1", "not a documented form"),
        ("labels.team:red", "only labels.team:*"),
        ("(labels.team=red", "not closed"),
        ("labels.team=red)", "unexpected ')'"),
        ("labels.team=red AND", "expected word"),
        ('display_name="open', "unexpected"),
    ],
)
def test_an_invalid_filter_is_explained(text: str, complaint: str) -> None:
    with pytest.raises(
        FilterError, match=complaint.replace("(", r"\(").replace(")", r"\)").replace("*", r"\*")
    ):
        compile_filter(text)
