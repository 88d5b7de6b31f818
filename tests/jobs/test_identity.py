from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.jobs.identity import (
    Mark,
    RunIdentity,
    label_value,
    marked,
)
from airflow_gemini_batch.jobs.spec import MAX_DISPLAY_NAME, InputFacts, JobSpec, check_labels

RUN = RunIdentity("dag", "task", "manual__2026", -1)
SPEC = JobSpec(
    "p",
    "us-central1",
    "publishers/google/models/m",
    ("gs://bkt/in",),
    "gs://bkt/out",
    "dag.task",
    input=InputFacts(content=("in 7 abc",)),
)

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
runs = st.builds(
    RunIdentity, names, names, names, st.integers(-1, 1000), installation=names, token=st.text(max_size=3)
)


def job(display_name: str) -> BatchJob:
    return BatchJob(JobName("p", "us-central1", "1"), JobState.RUNNING, display_name=display_name)


@given(runs, runs)
def test_runs_share_a_key_only_if_they_are_equal(one: RunIdentity, other: RunIdentity) -> None:
    assert (one.key == other.key) == (one == other)


@given(runs, st.integers(0, 1000))
def test_all_map_indexes_of_a_run_share_a_key_of_their_own(run: RunIdentity, index: int) -> None:
    mapped = replace(run, map_index=0)
    assert replace(run, map_index=index).mapped_key == mapped.mapped_key != mapped.key
    assert replace(run, map_index=-1).mapped_key == ""


def test_the_parts_of_a_key_are_separated() -> None:
    assert RunIdentity("a", "bc", "r").key != RunIdentity("ab", "c", "r").key


@given(runs, st.text(max_size=MAX_DISPLAY_NAME))
def test_a_mark_can_be_read_back_from_any_display_name(run: RunIdentity, title: str) -> None:
    named = marked(replace(SPEC, display_name=title), run)
    assert len(named.display_name) <= MAX_DISPLAY_NAME
    assert Mark.read(job(named.display_name)) == Mark.of(run, SPEC)


def test_a_spec_with_a_mark_is_still_valid() -> None:
    named = marked(replace(SPEC, output_uri="bq://proj.ds.tbl"), replace(RUN, map_index=3))
    assert len(named.labels) == 7
    assert named.labels["airflow_gemini_batch_dag"] == label_value(RUN.dag_id)
    assert check_labels(named.labels) == named.labels
    assert len(named.display_name) <= MAX_DISPLAY_NAME


def test_a_job_created_elsewhere_has_no_mark() -> None:
    assert Mark.read(job("nightly")) is None


def test_the_fingerprint_covers_every_part_of_the_request() -> None:
    changed = [
        replace(SPEC, project="q"),
        replace(SPEC, location="global"),
        replace(SPEC, model="publishers/google/models/n"),
        replace(SPEC, input_uris=("gs://bkt/in2",)),
        replace(SPEC, output_uri="gs://bkt/out2"),
    ]
    assert len({Mark.of(RUN, spec).asked for spec in [SPEC, *changed]}) == 6
    other_content = replace(SPEC, input=InputFacts(content=("in 3 xyz",)))
    assert Mark.of(RUN, other_content).asked == Mark.of(RUN, SPEC).asked
    assert Mark.of(RUN, other_content).content != Mark.of(RUN, SPEC).content


def test_the_fingerprint_ignores_display_name_and_labels() -> None:
    assert Mark.of(RUN, replace(SPEC, display_name="x", labels={"a": "b"})) == Mark.of(RUN, SPEC)


@pytest.mark.parametrize(
    "text",
    ["", "etl", "my_dag-2", "ETL", "etl.v2", "a b", "ünï", "x" * 64, "etl-0123456789ab", "日本", "X" * 250],
)
def test_any_text_is_the_value_of_a_label(text: str) -> None:
    value = label_value(text)
    assert re.fullmatch("[a-z0-9_-]{0,63}", value)
    is_plain = text in ("", "etl", "my_dag-2")
    assert (value == text) == is_plain
    # No text has the value of another one as its own.
    assert is_plain or label_value(value) != value


def test_texts_that_look_alike_have_different_values() -> None:
    texts = ["etl.v2", "etl-v2", "etl_v2", "ETL.v2", "etl v2"]
    assert len({label_value(text) for text in texts}) == len(texts)
