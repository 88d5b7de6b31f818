"""What is claimed, and what is left open. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobError, JobName, JobState
from airflow_gemini_batch.doctor.checks import diagnose
from airflow_gemini_batch.doctor.facts import Binding, Caller, Cause, Dataset, Facts, Problem, Setup
from airflow_gemini_batch.doctor.findings import Status
from airflow_gemini_batch.doctor.probe.assumptions import ASSUMPTIONS, BY_NAME, FOUND, NOTHING, REFUSED
from airflow_gemini_batch.doctor.probe.report import names_to_hide, to_dict
from airflow_gemini_batch.doctor.probe.steps import LABEL, Place, highest_cost, steps
from airflow_gemini_batch.doctor.probe.verdicts import Observations, Outcome, Seen, Verdict, verdicts

PLACE = Place("my-project", "global", "gemini-3.5-flash", "my-bucket", "my-project.d", "us-central1", "r1")
SETUP = Setup("my-project", "global", "my-bucket", "my-project.d", "gemini-3.5-flash")
AGENT = "serviceAccount:service-12@gcp-sa-aiplatform.iam.gserviceaccount.com"
DOWN = Problem(Cause.UNREACHABLE, "x.googleapis.com gave no readable answer (ConnectionError).")
FACTS = Facts(
    caller=Caller("me@example.com"),
    number="12",
    enabled=DOWN,
    on_project=DOWN,
    on_bucket=DOWN,
    on_table=DOWN,
    runs_queries=DOWN,
    creates_tables=DOWN,
    lists_jobs=DOWN,
    bucket=DOWN,
    dataset=DOWN,
    project_policy=DOWN,
    bucket_policy=DOWN,
    quotas=DOWN,
)


def job(state: JobState = JobState.SUCCEEDED, code: int | None = None, **labels: str) -> BatchJob:
    error = None if code is None else JobError(code, "Failed for my-bucket")
    return BatchJob(JobName("my-project", "global", "1"), state, labels=labels, error=error)


def verdict(name: str, seen: Observations) -> Verdict:
    (found,) = verdicts(seen, [name])
    return found


def seen(step: str, what: Seen, **filters: str) -> Observations:
    return Observations("r1", {step: what}, filters)


@pytest.mark.parametrize("name", BY_NAME)
def test_what_was_not_tried_is_not_settled(name: str) -> None:
    found = verdict(name, Observations("r1", {}))
    assert (found.outcome, found.saw) == (Outcome.UNSETTLED, "not tried here")


@pytest.mark.parametrize("name", ["key_echo", "several_uris", "wildcard_star"])
def test_a_job_that_failed_says_nothing_of_its_output(name: str) -> None:
    step = "plain" if name != "wildcard_star" else name
    found = verdict(name, seen(step, Seen(job(JobState.FAILED, 13))))
    assert (found.outcome, found.saw) == (Outcome.UNSETTLED, "the job ended as FAILED with code 13")


def test_a_job_without_keys_still_tells_how_many_objects_were_read() -> None:
    found = verdict("wildcard_star", seen("wildcard_star", Seen(job(), rows=2)))
    assert (found.outcome, found.saw) == (Outcome.DIFFERS, "star/a.jsonl, star/deep/b.jsonl")


def test_a_filter_by_label_says_nothing_if_labels_are_lost() -> None:
    lost = seen("plain", Seen(job()), label=NOTHING, state=NOTHING)
    assert verdict("filter_label", lost).outcome is Outcome.UNSETTLED
    assert verdict("filter_state", lost).outcome is Outcome.DIFFERS
    kept = seen("plain", Seen(job(**{LABEL: "r1"})), label=NOTHING)
    assert verdict("filter_label", kept).outcome is Outcome.DIFFERS


def test_a_filter_that_got_no_answer_is_not_settled() -> None:
    assert verdict("filter_state", seen("plain", Seen(job()), state="Vertex AI returned 503")).saw.endswith(
        "503"
    )


def test_the_package_reads_its_assumptions_from_itself() -> None:
    assumed = {each.name: each.assumed for each in ASSUMPTIONS}
    assert assumed["wildcard_star"] == "star/a.jsonl"
    assert assumed["wildcard_double_star"] == "star/a.jsonl, star/deep/b.jsonl"
    assert assumed["end_bad_line"] == "FAILED with code 3"
    assert (assumed["filter_label"], assumed["filter_hyphen"]) == (FOUND, REFUSED)


def test_every_assumption_but_one_has_a_job() -> None:
    settled = {name for step in steps(PLACE, BY_NAME) for name in step.settles}
    assert set(BY_NAME) - settled == {"upper_case_location"}


@pytest.mark.parametrize(
    ("location", "model", "expected"),
    [
        ("us-central1", "gemini-3.5-flash", "us"),
        ("europe-west4", "gemini-3.5-flash", "eu"),
        ("europe-west2", "gemini-3.5-flash", None),
        ("US", "gemini-3.5-flash", None),
        ("us-central1", "gemini-3.1-pro-preview", None),
        (None, "gemini-3.5-flash", None),
    ],
)
def test_the_multi_region_is_that_around_the_dataset(
    location: str | None, model: str, expected: str | None
) -> None:
    found = steps(replace(PLACE, dataset_location=location, model=model), ["multi_region_table"])
    assert [step.location for step in found] == ([expected] if expected else [])


def test_the_cost_is_small_for_every_model() -> None:
    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.models import models

    todo = steps(PLACE, BY_NAME)
    now = datetime(2026, 11, 28, tzinfo=UTC)
    costs = {
        name: estimate.cost_usd.high
        for name in models().models
        if (prices := BatchPrices.listed(name, "global", now))
        and (estimate := highest_cost(todo, prices)).cost_usd
    }
    assert len(costs) > 8
    assert all(cost is not None and cost < 1 for cost in costs.values()), costs


def test_the_file_names_nobody() -> None:
    observed = seen(
        "plain", Seen(job(JobState.FAILED, 3), problem="in my-project:d of me@example.com, 12345")
    )
    caller = Caller("me@example.com")
    document = to_dict(
        PLACE,
        observed,
        verdicts(observed, BY_NAME),
        versions={"p": "1"},
        now=datetime(2026, 11, 28, tzinfo=UTC),
        hidden=names_to_hide(PLACE, caller, "12345"),
    )
    text = repr(document)
    for name in ("my-project", "my-bucket", "me@example.com", "12345"):
        assert name not in text
    assert document["jobs"]["plain"]["error_message"] == "Failed for BUCKET"
    assert document["jobs"]["plain"]["counts"] == str(CompletionStats())


def test_nothing_is_claimed_while_google_does_not_answer() -> None:
    found = diagnose(SETUP, FACTS, date(2026, 11, 28))
    assert {each.check: each.status for each in found.findings if each.status is not Status.UNKNOWN} == {
        "credentials": Status.OK,
        "project": Status.OK,
        "model": Status.OK,
    }
    assert found.exit_code(strict=False) == 1


def agent(*bindings: Binding) -> Status:
    facts = replace(FACTS, project_policy=(), bucket_policy=bindings, dataset=Dataset("us-central1"))
    found = {each.check: each for each in diagnose(SETUP, facts, date(2026, 11, 28)).findings}
    return found["agent.objects"].status


def test_the_service_agent() -> None:
    admin, role = "roles/storage.admin", frozenset({AGENT})
    assert agent() is Status.MISSING
    assert agent(Binding(admin, role)) is Status.OK
    assert agent(Binding(admin, frozenset({"allUsers"}))) is Status.OK
    assert agent(Binding(admin, role, is_conditional=True)) is Status.UNKNOWN
    assert agent(Binding("projects/p/roles/own", role)) is Status.UNKNOWN
    assert agent(Binding("roles/storage.objectViewer", role)) is Status.MISSING
    assert agent(Binding(admin, frozenset({"user:me@example.com"}))) is Status.MISSING
