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
def test_two_runs_share_a_key_only_when_they_are_one(one: RunIdentity, other: RunIdentity) -> None:
    assert (one.key == other.key) == (one == other)


def test_parts_cannot_run_into_each_other() -> None:
    assert RunIdentity("a", "bc", "r").key != RunIdentity("ab", "c", "r").key


@given(runs, st.text(max_size=MAX_DISPLAY_NAME))
def test_a_mark_is_read_back_from_the_name_whatever_the_user_called_the_job(
    run: RunIdentity, title: str
) -> None:
    mark = Mark.of(run, SPEC)
    marked = mark.put_on(replace(SPEC, display_name=title))
    assert len(marked.display_name) <= MAX_DISPLAY_NAME
    assert Mark.read(job(marked.display_name)) == mark


def test_a_marked_spec_is_still_one_that_the_service_takes() -> None:
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


def test_a_job_of_somebody_else_has_no_mark() -> None:
    assert Mark.read(job("nightly")) is None


def test_every_part_of_the_request_is_in_the_fingerprint() -> None:
    changed = [
        replace(SPEC, project="q"),
        replace(SPEC, location="global"),
        replace(SPEC, model="publishers/google/models/n"),
        replace(SPEC, input_uris=("gs://bkt/in2",)),
        replace(SPEC, output_uri="gs://bkt/out2"),
    ]
    assert len({Mark.of(RUN, spec).request for spec in [SPEC, *changed]}) == 6


def test_names_and_labels_are_not() -> None:
    assert Mark.of(RUN, replace(SPEC, display_name="x", labels={"a": "b"})) == Mark.of(RUN, SPEC)
