from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.jobs.identity import Mark, RunIdentity
from airflow_gemini_batch.jobs.spec import MAX_DISPLAY_NAME, JobSpec, job_spec

RUN = RunIdentity("dag", "task", "manual__2026", -1)
SPEC = JobSpec("p", "us-central1", "publishers/google/models/m", ("gs://bkt/in",), "gs://bkt/out", "dag.task")

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
runs = st.builds(RunIdentity, names, names, names, st.integers(-1, 1000))


def job(display_name: str) -> BatchJob:
    return BatchJob(JobName("p", "us-central1", "1"), JobState.RUNNING, display_name=display_name)


@given(runs, runs)
def test_runs_share_a_key_only_if_they_are_equal(one: RunIdentity, other: RunIdentity) -> None:
    assert (one.key == other.key) == (one == other)


def test_the_parts_of_a_key_are_separated() -> None:
    assert RunIdentity("a", "bc", "r").key != RunIdentity("ab", "c", "r").key


@given(runs, st.text(max_size=MAX_DISPLAY_NAME))
def test_a_mark_can_be_read_back_from_any_display_name(run: RunIdentity, title: str) -> None:
    mark = Mark.of(run, SPEC)
    marked = mark.put_on(replace(SPEC, display_name=title))
    assert len(marked.display_name) <= MAX_DISPLAY_NAME
    assert Mark.read(job(marked.display_name)) == mark


def test_a_spec_with_a_mark_is_still_valid() -> None:
    marked = Mark.of(RUN, SPEC).put_on(SPEC)
    job_spec(
        project=marked.project,
        location=marked.location,
        model=marked.model,
        input_uri=marked.input_uris,
        output_uri=marked.output_uri,
        display_name=marked.display_name,
        labels=marked.labels,
    )


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
    assert len({Mark.of(RUN, spec).request for spec in [SPEC, *changed]}) == 6


def test_the_fingerprint_ignores_display_name_and_labels() -> None:
    assert Mark.of(RUN, replace(SPEC, display_name="x", labels={"a": "b"})) == Mark.of(RUN, SPEC)
