"""Submit once: look up, decide, create, and when the answer is lost look up again.

Source of the need: ``create`` has no idempotency key, so a create whose answer is lost may have made a job.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Protocol

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    JobConflictError,
    ServiceUnreachableError,
    SubmissionOutcomeUnknownError,
)
from airflow_gemini_batch.jobs.identity import Mark, RunIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.jobs.spec import JobSpec

log = logging.getLogger(__name__)

# How long a new job may take to show in the list is nowhere documented: about two minutes are waited.
LOOKUP_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
# A retry comes some time after the earlier try has died: a quarter of a minute more is waited.
RETRY_WAITS = (1.0, 2.0, 4.0, 8.0)
# A create that is refused so should have made nothing; nobody has promised it, so a look is taken.
_REFUSED = (409, 429)


class OnChangedInput(StrEnum):
    """What to do when this run already has a job and the request has changed since."""

    CANCEL_AND_REPLACE = "cancel_and_replace"
    FAIL = "fail"


class Action(Enum):
    """What to do about the jobs that were found."""

    CREATE = "create"
    ATTACH = "attach"
    REPLACE = "replace"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Policy:
    """The user's wishes.

    :param reuse_succeeded: attach to a job of this run that has already succeeded
    """

    on_changed_input: OnChangedInput = OnChangedInput.CANCEL_AND_REPLACE
    reuse_succeeded: bool = True


@dataclass(frozen=True)
class Decision:
    """One action, the jobs that it concerns, and why."""

    action: Action
    reason: str
    job: BatchJob | None = None
    to_cancel: tuple[BatchJob, ...] = ()


@dataclass(frozen=True)
class Submission:
    """The job of this run, and whether this call created it."""

    job: BatchJob
    created: bool
    reason: str


class Jobs(Protocol):
    """What submitting needs of the service; the hook has it."""

    def create_job(self, spec: JobSpec) -> BatchJob:
        """Create a job, one request."""
        ...

    def get_job(self, name: JobName) -> BatchJob:
        """Read a job."""
        ...

    def list_jobs(self, project: str, location: str, filter_: str) -> list[BatchJob]:
        """List jobs, to the last page."""
        ...

    def cancel_job(self, name: JobName) -> None:
        """Ask for a job to be cancelled."""
        ...


def decide(found: Iterable[BatchJob], mark: Mark, policy: Policy) -> Decision:
    """Decide about the jobs of this run that are on the server, newest first."""
    mine = [(job, Mark.read(job)) for job in found]
    same = [job for job, theirs in mine if theirs == mark]
    other = [
        job for job, theirs in mine if theirs and theirs.run == mark.run and theirs.request != mark.request
    ]

    active = [job for job in same if _goes_on(job)]
    if active:
        return Decision(
            Action.ATTACH, f"it is already {active[-1].state.name} from an earlier try", active[-1]
        )
    succeeded = [job for job in same if job.state.is_success]
    if succeeded and policy.reuse_succeeded:
        return Decision(
            Action.ATTACH, "it already succeeded in an earlier try; nothing is paid again", succeeded[0]
        )
    costing = tuple(job for job in other if _goes_on(job))
    if costing and policy.on_changed_input is OnChangedInput.FAIL:
        return Decision(Action.REFUSE, "the request has changed since", costing[0])
    if costing:
        return Decision(Action.REPLACE, "the request has changed since", to_cancel=costing)
    if same:
        return Decision(Action.CREATE, f"the job of an earlier try is {same[0].state.name}")
    return Decision(Action.CREATE, "this run has no job yet")


def _goes_on(job: BatchJob) -> bool:
    """Whether a job will do its work. One that somebody has cancelled was not wanted."""
    return not job.state.is_terminal and job.state is not JobState.CANCELLING


def submit(
    jobs: Jobs,
    spec: JobSpec,
    run: RunIdentity,
    policy: Policy | None = None,
    *,
    remembered: JobName | None = None,
    is_retry: bool = False,
    before_create: Callable[[], Mapping[str, str] | None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Submission:
    """Make sure that exactly one job of this run and this request exists, and return it.

    :param remembered: the job that an earlier try noted down, if any; it saves the look-up where it still
        fits, and is never relied on
    :param is_retry: an earlier try may have created a job that lists do not show yet; so it is looked for
        several times before another one is created
    :param before_create: called when no job can be attached to; may return further labels for the job; what
        it raises keeps one from being created
    :param sleep: waits the given seconds
    :raises ApiError: the service refused the job; nothing was created
    :raises JobConflictError: the policy forbids to replace the job that is there
    :raises SubmissionOutcomeUnknownError: it cannot be learnt whether a job was created
    """
    mark = Mark.of(run, spec)
    policy = policy or Policy()
    if remembered and (job := _recall(jobs, remembered, mark, policy)):
        return Submission(job, created=False, reason="an earlier try noted it down")
    found = _find(jobs, spec, mark)
    for wait in RETRY_WAITS if is_retry else ():
        if decide(found, mark, policy).action not in (Action.CREATE, Action.REPLACE):
            break
        sleep(wait)
        found = _find(jobs, spec, mark)
    for wait in LOOKUP_WAITS:
        if not _may_yet_succeed(found, mark, policy):
            break
        sleep(wait)
        found = _find(jobs, spec, mark)
    decision = decide(found, mark, policy)
    if decision.action is Action.ATTACH and decision.job:
        return Submission(jobs.get_job(decision.job.name), created=False, reason=decision.reason)
    if decision.action is Action.REFUSE and decision.job:
        raise JobConflictError(
            decision.job,
            f"This task run already has the batch job {decision.job.name} ({decision.job.state.name}), "
            f"made for another model, input or output. It goes on and costs money. Cancel it, or set "
            f"on_changed_input='{OnChangedInput.CANCEL_AND_REPLACE.value}'.",
        )
    if before_create:
        spec = replace(spec, labels={**spec.labels, **(before_create() or {})})
    for job in decision.to_cancel:
        log.warning("Cancelling %s (%s): %s", job.name, job.state.name, decision.reason)
        _cancel(jobs, job)
    return _create(jobs, mark.put_on(spec), mark, decision, sleep, known={job.name for job in found})


def find_done(jobs: Jobs, project: str, location: str, run: RunIdentity) -> BatchJob | None:
    """Find the job of this run that need not be made again, whatever it was asked.

    Goes on, has succeeded, or has ended otherwise and left rows that are paid for.
    """
    for job in _of_run(jobs, project, location, Mark(run.key, "")):
        if _goes_on(job) or job.state.is_success or (job.output_location and job.stats.successful != 0):
            return jobs.get_job(job.name)
    return None


def cancel_run(jobs: Jobs, spec: JobSpec, run: RunIdentity) -> list[JobName]:
    """Cancel every job of this run that is under way, and name them."""
    live = [job for job in _find(jobs, spec, Mark.of(run, spec)) if _goes_on(job)]
    for job in live:
        _cancel(jobs, job)
    return [job.name for job in live]


def _recall(jobs: Jobs, name: JobName, mark: Mark, policy: Policy) -> BatchJob | None:
    try:
        job = jobs.get_job(name)
    except GeminiBatchError as error:
        log.info("The job that an earlier try noted down cannot be read (%s); looking it up", error)
        return None
    return job if decide([job], mark, policy).action is Action.ATTACH else None


def _create(
    jobs: Jobs,
    spec: JobSpec,
    mark: Mark,
    decision: Decision,
    sleep: Callable[[float], None],
    known: Collection[JobName],
) -> Submission:
    try:
        return Submission(jobs.create_job(spec), created=True, reason=decision.reason)
    except (ApiError, ServiceUnreachableError) as error:
        waits = _waits_after(error)
        if not waits:
            raise
        log.warning("The create was not answered well (%s). Looking whether the job is there.", error)
        if job := _wait_for(jobs, spec, mark, sleep, known, waits):
            return Submission(job, created=True, reason="its answer was lost; it was found by its name")
        if isinstance(error, ApiError) and error.code in _REFUSED:
            raise
        raise SubmissionOutcomeUnknownError(spec.display_name, spec.parent, str(error)) from error


def _may_yet_succeed(found: Sequence[BatchJob], mark: Mark, policy: Policy) -> bool:
    """Whether what would be paid for again is just being cancelled: the cancel may come too late."""
    if decide(found, mark, policy).action is Action.ATTACH:
        return False
    return any(Mark.read(job) == mark and job.state is JobState.CANCELLING for job in found)


def _waits_after(error: ApiError | ServiceUnreachableError) -> Sequence[float]:
    """How long to look for a job after a create that failed so, in seconds; empty when there is none."""
    if isinstance(error, ServiceUnreachableError):
        return () if error.never_sent else LOOKUP_WAITS
    if error.code in _REFUSED:
        return RETRY_WAITS
    return LOOKUP_WAITS if error.code == 408 or error.code >= 500 else ()


def _wait_for(
    jobs: Jobs,
    spec: JobSpec,
    mark: Mark,
    sleep: Callable[[float], None],
    known: Collection[JobName],
    waits: Sequence[float],
) -> BatchJob | None:
    """Look for a job that was not there before the create; a short one may have succeeded already."""
    for wait in waits:
        sleep(wait)
        try:
            found = _find(jobs, spec, mark)
        except (ApiError, ServiceUnreachableError) as error:
            log.warning("Cannot look the job up yet: %s", error)
            continue
        new = [job for job in found if Mark.read(job) == mark and job.name not in known]
        if usable := [job for job in new if job.state.is_success or _goes_on(job)]:
            return jobs.get_job(usable[-1].name)
    return None


def _find(jobs: Jobs, spec: JobSpec, mark: Mark) -> Sequence[BatchJob]:
    return _of_run(jobs, spec.project, spec.location, mark)


def _of_run(jobs: Jobs, project: str, location: str, mark: Mark) -> Sequence[BatchJob]:
    # The filter may be looser than asked; the mark in the display name decides.
    found = jobs.list_jobs(project, location, mark.list_filter)
    return [job for job in found if (theirs := Mark.read(job)) and theirs.run == mark.run]


def _cancel(jobs: Jobs, job: BatchJob) -> None:
    try:
        jobs.cancel_job(job.name)
    except ApiError as error:
        if error.code != 400:
            raise
        log.info("%s had already ended", job.name)
