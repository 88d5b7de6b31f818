from __future__ import annotations

from dataclasses import replace
from typing import Any

import attr

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobError, JobName, JobState
from airflow_gemini_batch.lineage.datasets import Dataset, of_table
from airflow_gemini_batch.lineage.facts import MAX_JOBS, Facts, JobFacts

NAME = JobName("p", "global", "1")
BARE = BatchJob(NAME, JobState.PENDING)
ENDED = BatchJob(
    NAME,
    JobState.FAILED,
    model="publishers/google/models/gemini-3.5-flash",
    stats=CompletionStats(0, 3, 0),
    error=JobError(13, "Internal error"),
)


def test_a_second_look_adds_what_it_knows_and_forgets_nothing() -> None:
    known = Facts().and_job(BARE).and_job(ENDED)
    assert known.jobs == (
        JobFacts(
            name=str(NAME),
            model="gemini-3.5-flash",
            location="global",
            state="JOB_STATE_FAILED",
            error_code=13,
            error="Internal error",
        ),
    )
    assert known.and_job(BARE).jobs == (replace(known.jobs[0], state="JOB_STATE_PENDING"),)


def test_a_plan_is_behind_what_was_seen() -> None:
    planned = Facts((Dataset("gs://b", "in"),), (of_table("p.d.t"), of_table("p.d.t_errors")))
    seen = Facts(outputs=(of_table("p.d.t", rows=3),))
    assert seen.over(planned) == Facts(planned.inputs, (of_table("p.d.t", rows=3), of_table("p.d.t_errors")))


def test_an_event_names_few_jobs_and_counts_all() -> None:
    from airflow_gemini_batch.lineage.events import operator_lineage

    facts = Facts()
    for number in range(MAX_JOBS + 10):
        facts = facts.and_job(replace(BARE, name=JobName("p", "global", str(number))))
    facet: Any = operator_lineage(facts).run_facets["gemini_batch"]
    assert (len(facet.jobs), facet.jobCount) == (MAX_JOBS, MAX_JOBS + 10)
    assert set(facet.jobs[0]) == {"name", "location", "state"}


def test_the_schema_of_the_facet_has_its_fields() -> None:
    from airflow_gemini_batch.lineage.run_facet import SCHEMA_URL, GeminiBatchRunFacet
    from tests.lineage.schema import SCHEMA

    assert SCHEMA["$id"] == SCHEMA_URL
    fields = {each.name for each in attr.fields(GeminiBatchRunFacet) if not each.name.startswith("_")}
    assert set(SCHEMA["properties"]) == fields
    of_job = SCHEMA["properties"]["jobs"]["items"]["properties"]
    assert set(of_job) == set(vars(JobFacts("")))
    for name, each in {**SCHEMA["properties"], **of_job}.items():
        assert each["description"], name


def test_without_a_job_there_is_no_run_facet() -> None:
    from airflow_gemini_batch.lineage.events import operator_lineage

    assert operator_lineage(Facts()).run_facets == {}
