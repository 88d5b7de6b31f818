"""Whether to create a job, attach to an existing one or replace it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.jobs.identity import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_gemini_batch.batch_job import BatchJob


class OnChangedInput(StrEnum):
    """What to do if this run already has a job and the request has changed since."""

    CANCEL_AND_REPLACE = "cancel_and_replace"
    FAIL = "fail"


class Action(Enum):
    """What to do, given the jobs that were found."""

    CREATE = "create"
    ATTACH = "attach"
    REPLACE = "replace"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Policy:
    """What the user allows.

    :param reuse_succeeded: attach to a job of this run that has already succeeded
    """

    on_changed_input: OnChangedInput = OnChangedInput.CANCEL_AND_REPLACE
    reuse_succeeded: bool = True


@dataclass(frozen=True)
class Decision:
    """An action, the jobs it applies to, and the reason."""

    action: Action
    reason: str
    job: BatchJob | None = None
    to_cancel: tuple[BatchJob, ...] = ()


def decide(found: Iterable[BatchJob], mark: Mark, policy: Policy) -> Decision:
    """Decide what to do, given the jobs of this run that exist.

    :param found: newest first
    """
    mine = [(job, Mark.read(job)) for job in found]
    same = [job for job, theirs in mine if theirs == mark]
    other = [
        job for job, theirs in mine if theirs and theirs.run == mark.run and theirs.request != mark.request
    ]

    active = [job for job in same if is_active(job)]
    if active:
        return Decision(
            Action.ATTACH, f"an earlier try created it, and it is {active[-1].state.name}", active[-1]
        )
    succeeded = [job for job in same if job.state.is_success]
    if succeeded and policy.reuse_succeeded:
        return Decision(
            Action.ATTACH, "an earlier try created it, and it has succeeded; no new charges", succeeded[0]
        )
    outdated = tuple(job for job in other if is_active(job))
    if outdated and policy.on_changed_input is OnChangedInput.FAIL:
        return Decision(Action.REFUSE, "the request has changed since it was created", outdated[0])
    if outdated:
        return Decision(Action.REPLACE, "the request has changed since it was created", to_cancel=outdated)
    if same:
        return Decision(Action.CREATE, f"the job of an earlier try is {same[0].state.name}")
    return Decision(Action.CREATE, "this task run had no job")


def is_active(job: BatchJob) -> bool:
    """Whether a job is going to process rows. One that is being cancelled is not."""
    return not job.state.is_terminal and job.state is not JobState.CANCELLING
