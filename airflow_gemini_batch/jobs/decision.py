"""Whether to create a job, attach to an existing one or replace it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.jobs.identity import MAPPED_LABEL, TRIES_LABEL, Mark, shared_key
from airflow_gemini_batch.jobs.outcome import may_run_again

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.spec import JobSpec


class OnChangedInput(StrEnum):
    """What to do if this run already has a job and the request has changed since."""

    CANCEL_AND_REPLACE = "cancel_and_replace"
    FAIL = "fail"


class Action(Enum):
    """What to do, given the jobs that were found."""

    CREATE = "create"
    ATTACH = "attach"
    """Also to a job that ended badly with completed rows: they are charged, so they must be used."""
    REPLACE = "replace"
    REFUSE = "refuse"
    """It is not clear what to do, or the user wants to be asked."""
    STOP = "stop"
    """The job ended with nothing to use, and a retry would end the same."""


_CHANGED = (
    "it was created with a different model, input or output. It keeps running and costs money. Cancel it, or "
    f"set on_changed_input='{OnChangedInput.CANCEL_AND_REPLACE.value}'; the rows that it has completed are "
    "charged either way."
)
_CHARGED = (
    "the model, the input or the output has changed since, and a retry by Airflow pays for no other request. "
    "To use its completed rows, which are charged, undo the change and clear this task. To run all rows "
    "again, and pay for all of them again, clear this task with the change."
)
_UNCLEAR = (
    "its input table was modified later, and the rows cannot be compared, so it is unknown whether the job "
    "answers the present rows. Allow the connection's account to query the table (bigquery.jobs.create and "
    "bigquery.tables.getData). Or give the submit task a new force_new, which runs all rows again and pays "
    "for all of them again."
)


@dataclass(frozen=True)
class Policy:
    """What the user allows, and how the task came to run.

    :param is_first_try: this is the first try of the run, so this run has not created any job yet
    :param is_asked_for: a person or the schedule seems to have started this try, not an automatic retry
    :param max_tries: how many retries the task run may have in all; a person who clears the task raises it
    """

    on_changed_input: OnChangedInput = OnChangedInput.CANCEL_AND_REPLACE
    is_first_try: bool = True
    is_asked_for: bool = True
    max_tries: int | None = None

    def is_asked_since(self, job: BatchJob) -> bool:
        """Whether a person or the schedule started this try, after this run had created a job."""
        return self.is_asked_for and (self.is_first_try or self.is_cleared_since(job))

    def is_cleared_since(self, job: BatchJob) -> bool:
        """Whether a person may have cleared the task after this run had created a job."""
        return job.labels.get(TRIES_LABEL) != str(self.max_tries)


@dataclass(frozen=True)
class Decision:
    """An action, the jobs it applies to, and the reason."""

    action: Action
    reason: str
    job: BatchJob | None = None
    to_cancel: tuple[BatchJob, ...] = ()

    @property
    def creates(self) -> bool:
        """Whether a new job is to be created."""
        return self.action in (Action.CREATE, Action.REPLACE)


class Match(Enum):
    """How a job relates to the request of this task run."""

    SAME = "same"
    CHANGED = "changed"
    UNCLEAR = "unclear"
    """The input table was modified after the job was created, and its content cannot be compared."""
    FOREIGN = "foreign"
    """The job belongs to another task run."""


@dataclass(frozen=True)
class Request:
    """What this task run asks for."""

    run: RunIdentity
    spec: JobSpec

    def match(self, job: BatchJob) -> Match:
        """Compare a job with this request."""
        theirs, mine = Mark.read(job), Mark.of(self.run, self.spec)
        if theirs is None:
            return Match.FOREIGN
        if theirs.is_legacy:
            return self._match_legacy(theirs)
        is_peer = self.is_peer(job)
        if theirs.run != mine.run and not is_peer:
            return Match.FOREIGN
        is_same = is_peer or theirs.asked == mine.asked
        match = self._match_content(job, theirs, mine) if is_same else Match.CHANGED
        return Match.FOREIGN if is_peer and match is not Match.SAME else match

    def is_peer(self, job: BatchJob) -> bool:
        """Whether another map index of this run created the job, for this model and the names of this input.

        Its output may be elsewhere: the job says where, and to pay again costs more.
        """
        shared = shared_key(self.run, self.spec)
        is_mine = f"[{self.run.key}." in job.display_name
        return bool(shared) and job.labels.get(MAPPED_LABEL) == shared and not is_mine

    def may_have_moved(self, job: BatchJob, policy: Policy) -> bool:
        """Whether this map index may have had another request, which another index now asks for.

        The list that a task is mapped over changes only when tasks are cleared.
        """
        theirs = Mark.read(job)
        is_other = theirs is not None and theirs.asked != Mark.of(self.run, self.spec).asked
        return bool(self.run.mapped_key) and is_other and policy.is_cleared_since(job)

    def _match_content(self, job: BatchJob, theirs: Mark, mine: Mark) -> Match:
        if theirs.content and mine.content:
            return Match.SAME if theirs.content == mine.content else Match.CHANGED
        modified = self.spec.input.modified
        # Without metadata nothing is known, and that is no reason to pay again.
        if modified is None or job.create_time is None or modified <= job.create_time:
            return Match.SAME
        return Match.UNCLEAR

    def _match_legacy(self, theirs: Mark) -> Match:
        legacy = Mark.legacy(self.run, self.spec)
        if theirs.run != legacy.run:
            return Match.FOREIGN
        is_same = theirs == legacy or self.spec.input.metadata is None
        # Earlier versions did not write the installation, so a job for another request may be another's.
        return Match.SAME if is_same else Match.FOREIGN


def decide(found: Sequence[BatchJob], request: Request, policy: Policy) -> Decision:
    """Decide what to do, given the jobs of this run that exist.

    :param found: newest first
    """
    matches = [(job, request.match(job)) for job in found]
    same = [job for job, match in matches if match is Match.SAME]
    if usable := _usable(same):
        return usable
    if doubtful := _usable([job for job, match in matches if match is Match.UNCLEAR]):
        return Decision(Action.REFUSE, _UNCLEAR, doubtful.job)
    charged = [
        job
        for job, match in matches
        if match is Match.CHANGED
        and (job.state.is_success or job.is_charged)
        and not request.may_have_moved(job, policy)
        and not policy.is_asked_since(job)
    ]
    if charged:
        return Decision(Action.REFUSE, _CHARGED, charged[0])
    outdated = tuple(job for job, match in matches if match is Match.CHANGED and job.is_active)
    if outdated and policy.on_changed_input is OnChangedInput.FAIL:
        return Decision(Action.REFUSE, _CHANGED, outdated[0])
    is_replaced = not any(request.may_have_moved(job, policy) for job in outdated)
    if outdated and not policy.is_first_try and is_replaced:
        return Decision(Action.REPLACE, "the request has changed since it was created", to_cancel=outdated)
    mine = [job for job in same if not request.is_peer(job)]
    return _create(mine, outdated, policy, _why_none(matches, request))


def _why_none(matches: Sequence[tuple[BatchJob, Match]], request: Request) -> str:
    """Say why no job of this run is of use, which is not always that there was none."""
    for job, match in matches:
        if match is Match.CHANGED and not job.is_active:
            charged = "; its completed rows are charged" if job.is_charged else ""
            return f"{job.name.job_id} ({job.state.name}) was for another request{charged}"
        if match is Match.UNCLEAR:
            return f"{job.name.job_id} of this task run ended as {job.state.name}, with nothing charged"
    if request.run.token:
        return "force_new is new to this task run, so all rows are run and paid for, even if they were before"
    return "no earlier job was found"


def _create(
    mine: Sequence[BatchJob], outdated: Sequence[BatchJob], policy: Policy, why_none: str
) -> Decision:
    """Create a job, unless the last one ended in a way that a retry cannot mend."""
    if mine:
        reason = f"the job of an earlier try is {mine[0].state.name}"
        is_hopeless = not policy.is_asked_since(mine[0]) and not may_run_again(mine[0])
        return Decision(Action.STOP if is_hopeless else Action.CREATE, reason, mine[0])
    if outdated:
        # It may be what another map index asks for, or the job of an Airflow whose database was copied.
        other = outdated[0].name.job_id
        left = f"the earlier job {other} is for another request; it is left running and costs money"
        return Decision(Action.CREATE, left)
    return Decision(Action.CREATE, why_none)


def _usable(same: Sequence[BatchJob]) -> Decision | None:
    """Attach to a job that is active, has succeeded, has completed rows, or may yet have some."""
    if active := [job for job in same if job.is_active]:
        return Decision(
            Action.ATTACH, f"an earlier try created it, and it is {active[-1].state.name}", active[-1]
        )
    if succeeded := [job for job in same if job.state.is_success]:
        return Decision(
            Action.ATTACH, "an earlier try created it, and it has succeeded; no new charges", succeeded[0]
        )
    if charged := [job for job in same if job.is_charged]:
        best = max(charged, key=lambda job: job.stats.successful or 0)
        reason = f"an earlier try created it, and it ended {best.state.name}; its completed rows are charged"
        return Decision(Action.ATTACH, reason, best)
    if cancelling := [job for job in same if job.state is JobState.CANCELLING]:
        return Decision(
            Action.ATTACH,
            "an earlier try created it; it is being cancelled, and may yet succeed",
            cancelling[0],
        )
    return None
