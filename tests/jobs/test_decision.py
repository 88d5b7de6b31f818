"""Which action decide() takes. submit() is tested over HTTP in tests/tasks and tests/reliability."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobError, JobName, JobState
from airflow_gemini_batch.jobs.decision import Action, Match, OnChangedInput, Policy, Request, decide
from airflow_gemini_batch.jobs.identity import MAPPED_LABEL, TRIES_LABEL, Mark, RunIdentity, marked
from airflow_gemini_batch.jobs.spec import InputFacts, JobSpec

if TYPE_CHECKING:
    from typing import Any

CREATED = datetime(2026, 11, 1, tzinfo=UTC)
RUN = RunIdentity("dag", "task", "run", installation="prod")
SPEC = JobSpec(
    "p",
    "us-central1",
    "publishers/google/models/m",
    ("gs://bkt/in",),
    "gs://bkt/out",
    "title",
    input=InputFacts(content=("in 7 abc",), metadata=("in 7 abc",)),
)
OTHER_MODEL = replace(SPEC, model="publishers/google/models/n")
MINE = Request(RUN, SPEC)
RETRY = Policy(is_first_try=False, is_asked_for=False)
CLEARED = Policy(is_first_try=False, is_asked_for=True)

ENDED_BADLY = [JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED]
ACTIVE = [state for state in JobState if not state.is_terminal and state is not JobState.CANCELLING]
SUCCEEDED = [JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED]
NONE_DONE = CompletionStats(0, 0, 10)
NINE_DONE = CompletionStats(9, 0, 1)


def job(
    state: JobState, spec: JobSpec = SPEC, run: RunIdentity = RUN, job_id: str = "1", **more: Any
) -> BatchJob:
    named = marked(spec, run)
    values: dict[str, Any] = {"stats": NONE_DONE, "create_time": CREATED, **more}
    return BatchJob(
        JobName("p", "l", job_id), state, display_name=named.display_name, labels=named.labels, **values
    )


def test_without_a_job_one_is_created() -> None:
    for policy in (Policy(), RETRY, CLEARED):
        assert decide([], MINE, policy).action is Action.CREATE


@pytest.mark.parametrize(
    "run",
    [
        replace(RUN, run_id="other"),
        replace(RUN, installation="dev"),
        replace(RUN, token="again"),
        replace(RUN, map_index=0),
        replace(RUN, part="retry 1"),
    ],
)
@pytest.mark.parametrize("spec", [SPEC, OTHER_MODEL])
@pytest.mark.parametrize("state", JobState)
def test_jobs_of_other_runs_and_installations_are_ignored(
    run: RunIdentity, spec: JobSpec, state: JobState
) -> None:
    for policy in (Policy(), RETRY, CLEARED):
        decision = decide([job(state, spec, run, stats=NINE_DONE)], MINE, policy)
        assert decision.action is Action.CREATE
        assert not decision.to_cancel


@pytest.mark.parametrize("policy", [Policy(), RETRY, CLEARED])
@pytest.mark.parametrize("state", [*ACTIVE, *SUCCEEDED])
def test_a_job_that_runs_or_has_succeeded_is_used(state: JobState, policy: Policy) -> None:
    assert decide([job(state)], MINE, policy).action is Action.ATTACH


@pytest.mark.parametrize("policy", [Policy(), RETRY, CLEARED])
@pytest.mark.parametrize("state", ENDED_BADLY)
@pytest.mark.parametrize(
    "charged",
    [{"stats": NINE_DONE}, {"stats": CompletionStats(), "output_location": "gs://bkt/out/prediction-1"}],
)
def test_a_job_with_completed_rows_is_never_made_again(
    state: JobState, charged: dict[str, Any], policy: Policy
) -> None:
    decision = decide([job(state, **charged)], MINE, policy)
    assert decision.action is Action.ATTACH
    assert state.name in decision.reason


@pytest.mark.parametrize(
    ("state", "code", "action"),
    [
        (JobState.EXPIRED, None, Action.CREATE),
        (JobState.FAILED, 13, Action.CREATE),
        (JobState.FAILED, 8, Action.CREATE),
        (JobState.FAILED, 3, Action.STOP),
        (JobState.FAILED, 7, Action.STOP),
        (JobState.FAILED, 9, Action.STOP),
        (JobState.CANCELLED, None, Action.STOP),
        (JobState.CANCELLED, 1, Action.STOP),
    ],
)
def test_after_a_job_that_is_not_charged_a_retry_creates_another_only_if_that_can_help(
    state: JobState, code: int | None, action: Action
) -> None:
    ended = job(state, error=None if code is None else JobError(code, "reason"))
    decision = decide([ended], MINE, RETRY)
    assert decision.action is action
    assert state.name in decision.reason
    assert decide([ended], MINE, CLEARED).action is Action.CREATE


def test_an_import_that_failed_is_not_charged_although_a_folder_for_its_output_exists() -> None:
    ended = job(
        JobState.FAILED, error=JobError(3, "x"), stats=CompletionStats(), output_location="gs://bkt/out/p"
    )
    assert decide([ended], MINE, CLEARED).action is Action.CREATE


@pytest.mark.parametrize("state", [*ENDED_BADLY, JobState.CANCELLING])
def test_a_running_job_takes_precedence_over_older_ones_that_ended(state: JobState) -> None:
    found = [job(JobState.PENDING, job_id="2"), job(state, job_id="1")]
    decision = decide(found, MINE, RETRY)
    assert decision.action is Action.ATTACH
    assert decision.job is found[0]


@pytest.mark.parametrize("policy", [Policy(), RETRY, CLEARED])
def test_a_job_that_is_being_cancelled_may_yet_succeed(policy: Policy) -> None:
    assert decide([job(JobState.CANCELLING)], MINE, policy).action is Action.ATTACH


def test_of_two_active_jobs_for_one_request_the_older_is_used() -> None:
    found = [job(JobState.PENDING, job_id="2"), job(JobState.RUNNING, job_id="1")]
    assert decide(found, MINE, RETRY).job is found[1]


def test_of_two_jobs_that_ended_badly_the_one_with_more_completed_rows_is_used() -> None:
    found = [
        job(JobState.EXPIRED, job_id="2", stats=CompletionStats(1, 0, 9)),
        job(JobState.FAILED, job_id="1", stats=NINE_DONE),
    ]
    assert decide(found, MINE, RETRY).job is found[1]


def test_an_active_job_for_another_request_is_replaced_or_reported_as_a_conflict() -> None:
    found = [job(JobState.RUNNING, OTHER_MODEL)]
    for policy in (RETRY, CLEARED):
        replaced = decide(found, MINE, policy)
        assert replaced.action is Action.REPLACE
        assert replaced.to_cancel == (found[0],)
        fails = replace(policy, on_changed_input=OnChangedInput.FAIL)
        assert decide(found, MINE, fails).action is Action.REFUSE


def test_the_first_try_of_a_run_cancels_nothing() -> None:
    decision = decide([job(JobState.RUNNING, OTHER_MODEL)], MINE, Policy())
    assert decision.action is Action.CREATE
    assert not decision.to_cancel
    assert "left running" in decision.reason


@pytest.mark.parametrize("state", [*ENDED_BADLY, *SUCCEEDED, JobState.CANCELLING])
def test_a_job_for_another_request_that_does_not_run_is_ignored(state: JobState) -> None:
    found = [job(state, OTHER_MODEL, stats=NINE_DONE)]
    fails = Policy(OnChangedInput.FAIL, is_first_try=False)
    assert decide(found, MINE, fails).action is Action.CREATE


@pytest.mark.parametrize("state", [*ENDED_BADLY, *SUCCEEDED])
def test_only_a_user_pays_for_another_request_after_a_job_that_is_charged(state: JobState) -> None:
    found = [job(state, OTHER_MODEL, stats=NINE_DONE)]
    decision = decide(found, MINE, RETRY)
    assert (decision.action, decision.job) == (Action.REFUSE, found[0])
    assert "clear this task" in decision.reason
    assert decide(found, MINE, CLEARED).action is Action.CREATE


@pytest.mark.parametrize("state", ENDED_BADLY)
def test_a_retry_may_ask_for_another_request_if_nothing_is_charged(state: JobState) -> None:
    assert decide([job(state, OTHER_MODEL)], MINE, RETRY).action is Action.CREATE


def test_a_folder_with_a_slash_at_the_end_is_the_same_output() -> None:
    found = [job(JobState.SUCCEEDED, replace(SPEC, output_uri="gs://bkt/out/"))]
    assert decide(found, MINE, RETRY).action is Action.ATTACH


@pytest.mark.parametrize("state", [*ENDED_BADLY, *SUCCEEDED])
def test_the_reason_for_a_new_job_names_one_for_another_request_and_what_it_costs(state: JobState) -> None:
    found = [job(state, OTHER_MODEL, stats=NINE_DONE)]
    reason = decide(found, MINE, CLEARED).reason
    assert found[0].name.job_id in reason
    assert state.name in reason
    assert "charged" in reason
    assert "no earlier job" not in reason
    assert "charged" not in decide([job(JobState.FAILED, OTHER_MODEL)], MINE, CLEARED).reason
    assert decide([], MINE, CLEARED).reason == "no earlier job was found"


def test_the_reason_for_a_job_of_a_new_force_new_says_that_it_pays_again() -> None:
    asked_again = Request(replace(RUN, token="again"), SPEC)
    found = [job(JobState.SUCCEEDED, stats=NINE_DONE)]
    assert "paid for, even if they were before" in decide(found, asked_again, CLEARED).reason


class TestRetriesChanged:
    """Airflow counts from what ``retries`` is now, so a job carries the ``max_tries`` of its creation."""

    lowered = Policy(is_first_try=False, is_asked_for=True, max_tries=3)

    @staticmethod
    def created(state: JobState, max_tries: int, spec: JobSpec = SPEC, **more: Any) -> BatchJob:
        found = job(state, spec, **more)
        return replace(found, labels={**found.labels, TRIES_LABEL: str(max_tries)})

    def test_a_retry_is_not_taken_for_a_person(self) -> None:
        cancelled = self.created(JobState.CANCELLED, 3)
        assert decide([cancelled], MINE, self.lowered).action is Action.STOP
        charged = self.created(JobState.SUCCEEDED, 3, OTHER_MODEL)
        assert decide([charged], MINE, self.lowered).action is Action.REFUSE

    def test_a_retry_of_a_cleared_task_is_not_either(self) -> None:
        """The cleared task may have attached to the job, which was cancelled only then."""
        cancelled = self.created(JobState.CANCELLED, 1)
        retry = Policy(is_first_try=False, is_asked_for=False, max_tries=3)
        assert decide([cancelled], MINE, retry).action is Action.STOP

    def test_a_person_who_clears_the_task_asks(self) -> None:
        cancelled = self.created(JobState.CANCELLED, 1)
        assert decide([cancelled], MINE, self.lowered).action is Action.CREATE
        charged = self.created(JobState.SUCCEEDED, 1, OTHER_MODEL)
        assert decide([charged], MINE, self.lowered).action is Action.CREATE

    def test_the_first_try_of_a_run_that_was_deleted_and_made_again_is_asked_for(self) -> None:
        cancelled = self.created(JobState.CANCELLED, 3)
        first = Policy(is_first_try=True, is_asked_for=True, max_tries=3)
        assert decide([cancelled], MINE, first).action is Action.CREATE

    def test_without_the_label_airflows_count_decides(self) -> None:
        for asked, action in ((True, Action.CREATE), (False, Action.STOP)):
            policy = Policy(is_first_try=False, is_asked_for=asked, max_tries=3)
            assert decide([job(JobState.CANCELLED)], MINE, policy).action is action


class TestMapped:
    index, other = replace(RUN, map_index=0), replace(RUN, map_index=1)
    request = Request(index, SPEC)

    @pytest.mark.parametrize("policy", [Policy(), RETRY, CLEARED])
    @pytest.mark.parametrize("state", [*ACTIVE, *SUCCEEDED])
    def test_the_job_of_another_index_for_the_same_request_is_used(
        self, state: JobState, policy: Policy
    ) -> None:
        assert decide([job(state, run=self.other)], self.request, policy).action is Action.ATTACH

    def test_a_job_for_another_request_is_left_to_the_index_that_asks_for_it(self) -> None:
        found = [
            job(JobState.RUNNING, OTHER_MODEL, self.index),
            job(JobState.RUNNING, OTHER_MODEL, self.other),
        ]
        for policy in (Policy(), RETRY, CLEARED):
            decision = decide(found, self.request, policy)
            assert decision.action is Action.CREATE
            assert not decision.to_cancel

    def test_a_charged_job_from_before_the_list_changed_holds_nothing_back(self) -> None:
        found = [job(JobState.SUCCEEDED, OTHER_MODEL, self.index)]
        assert decide(found, self.request, RETRY).action is Action.CREATE
        rewritten = replace(SPEC, input=InputFacts(content=("in 7 def",)))
        found = [job(JobState.SUCCEEDED, rewritten, self.index)]
        assert decide(found, self.request, RETRY).action is Action.REFUSE

    @pytest.mark.parametrize("spec", [OTHER_MODEL, replace(SPEC, input_uris=("gs://bkt/other",))])
    def test_the_list_does_not_change_between_automatic_retries(self, spec: JobSpec) -> None:
        """So a request that has changed is another one, as for a task that is not mapped."""
        retry = Policy(is_first_try=False, is_asked_for=False, max_tries=3)

        def created(state: JobState, **more: Any) -> BatchJob:
            found = job(state, spec, self.index, **more)
            return replace(found, labels={**found.labels, TRIES_LABEL: "3"})

        assert decide([created(JobState.SUCCEEDED)], self.request, retry).action is Action.REFUSE
        assert decide([created(JobState.EXPIRED, stats=NINE_DONE)], self.request, retry).action is (
            Action.REFUSE
        )
        assert decide([created(JobState.RUNNING)], self.request, retry).action is Action.REPLACE
        cleared = Policy(is_first_try=False, is_asked_for=True, max_tries=5)
        left = decide([created(JobState.RUNNING)], self.request, cleared)
        assert (left.action, left.to_cancel) == (Action.CREATE, ())

    @pytest.mark.parametrize("state", [*ACTIVE, *SUCCEEDED])
    def test_another_index_may_have_written_elsewhere(self, state: JobState) -> None:
        theirs = replace(SPEC, output_uri="gs://bkt/out/1")
        mine = Request(self.index, replace(SPEC, output_uri="gs://bkt/out/0"))
        assert decide([job(state, theirs, self.other)], mine, CLEARED).action is Action.ATTACH
        moved = job(state, replace(theirs, output_uri="gs://bkt/out/2"), self.index)
        assert decide([moved], mine, CLEARED).action is Action.CREATE

    def test_the_bad_end_of_another_index_does_not_stop_this_one(self) -> None:
        found = [job(JobState.CANCELLED, run=self.other)]
        assert decide(found, self.request, RETRY).action is Action.CREATE

    def test_an_index_of_another_run_is_foreign(self) -> None:
        foreign = job(JobState.RUNNING, run=replace(self.other, run_id="other"))
        assert MAPPED_LABEL in foreign.labels
        assert self.request.match(foreign) is Match.FOREIGN


class TestContent:
    """A table's content is known by its checksum; metadata says only when it was modified."""

    before, after = CREATED - timedelta(seconds=1), CREATED + timedelta(seconds=1)

    @staticmethod
    def table(content: str | None, modified: datetime | None) -> JobSpec:
        metadata = None if modified is None else ("7 rows",)
        facts = InputFacts(None if content is None else (content,), metadata, modified)
        return replace(SPEC, input_uris=("bq://p.d.t",), input=facts)

    @pytest.mark.parametrize(("theirs", "mine"), list(product([None, "a"], [None, "a", "b"])))
    @pytest.mark.parametrize("modified", [None, before, after])
    def test_every_combination(self, theirs: str | None, mine: str | None, modified: datetime | None) -> None:
        found = job(JobState.RUNNING, self.table(theirs, None))
        match = Request(RUN, self.table(mine, modified)).match(found)
        if theirs and mine:
            assert match is (Match.SAME if theirs == mine else Match.CHANGED)
        elif modified == self.after:
            assert match is Match.UNCLEAR
        else:
            # A look at the input that is refused says nothing about whether it has changed.
            assert match is Match.SAME

    @pytest.mark.parametrize("state", [*ACTIVE, *SUCCEEDED])
    @pytest.mark.parametrize("policy", [Policy(), RETRY, CLEARED])
    def test_a_table_that_cannot_be_told_apart_is_refused(self, state: JobState, policy: Policy) -> None:
        request = Request(RUN, self.table(None, self.after))
        decision = decide([job(state, self.table("a", None))], request, policy)
        assert decision.action is Action.REFUSE
        assert not decision.to_cancel


class TestLegacy:
    """Jobs that an earlier version created carry no installation."""

    def legacy(self, state: JobState, spec: JobSpec = SPEC, run: RunIdentity = RUN) -> BatchJob:
        mark = Mark.legacy(run, spec)
        return replace(job(state), display_name=f"title [{mark.run}.{mark.asked}]", labels={})

    def test_the_mark_is_the_one_that_was_written(self) -> None:
        assert self.legacy(JobState.RUNNING).display_name == (
            "title [e44236b26b267ec77ecc7730.ab6bf48f5a7cda67]"
        )

    @pytest.mark.parametrize("state", [*ACTIVE, *SUCCEEDED])
    def test_one_for_the_same_request_is_used(self, state: JobState) -> None:
        assert decide([self.legacy(state)], MINE, RETRY).action is Action.ATTACH

    def test_one_for_another_request_may_belong_to_another_installation(self) -> None:
        decision = decide([self.legacy(JobState.RUNNING, OTHER_MODEL)], MINE, RETRY)
        assert decision.action is Action.CREATE
        assert not decision.to_cancel

    def test_one_is_used_if_the_input_cannot_be_read(self) -> None:
        unread = Request(RUN, replace(SPEC, input=InputFacts()))
        assert decide([self.legacy(JobState.RUNNING)], unread, RETRY).action is Action.ATTACH
