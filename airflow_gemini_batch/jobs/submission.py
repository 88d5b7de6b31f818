"""Idempotent submission: look up, decide, create; look up again if the response to the create is lost.

The API has no idempotency key for creating jobs, so a create whose response is lost may have created one.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    JobConflictError,
    ServiceUnreachableError,
    SubmissionOutcomeUnknownError,
)
from airflow_gemini_batch.jobs.decision import Action, OnChangedInput, Policy, decide, is_active
from airflow_gemini_batch.jobs.identity import Mark, RunIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.jobs.decision import Decision
    from airflow_gemini_batch.jobs.spec import JobSpec

log = logging.getLogger(__name__)

# How soon a new job is listed is not documented: look for it for about two minutes.
LOOKUP_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
# A retry starts some time after the earlier try died: look for another quarter of a minute.
RETRY_WAITS = (1.0, 2.0, 4.0, 8.0)
# A create rejected with these codes should have created nothing, but no documentation says so: look.
_REJECTED = (409, 429)


@dataclass(frozen=True)
class Submission:
    """The job of this run, and whether this call created it."""

    job: BatchJob
    created: bool
    reason: str


class JobService(Protocol):
    """The calls that submission needs; :class:`GeminiBatchHook` implements them."""

    def create_job(self, spec: JobSpec) -> BatchJob:
        """Create a job with a single request."""
        ...

    def get_job(self, name: JobName) -> BatchJob:
        """Read a job."""
        ...

    def list_jobs(self, project: str, location: str, filter_: str) -> list[BatchJob]:
        """List jobs; reads all pages."""
        ...

    def cancel_job(self, name: JobName) -> object:
        """Request cancellation of a job."""
        ...


def submit(
    jobs: JobService,
    spec: JobSpec,
    run: RunIdentity,
    policy: Policy | None = None,
    *,
    remembered: JobName | None = None,
    is_retry: bool = False,
    before_create: Callable[[], Mapping[str, str] | None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Submission:
    """Ensure that exactly one job exists for this run and this request, and return it.

    :param remembered: the job that an earlier try recorded, if any; saves a look-up if it still matches, but
        is verified first
    :param is_retry: an earlier try may have created a job that is not listed yet, so look several times
        before creating one
    :param before_create: called if there is no job to attach to; may return more labels for the job, or raise
        to prevent its creation
    :param sleep: waits the given number of seconds
    :raises ApiError: the service rejected the job; nothing was created
    :raises JobConflictError: the policy does not allow replacing the existing job
    :raises SubmissionOutcomeUnknownError: it is unknown whether a job was created
    """
    mark = Mark.of(run, spec)
    policy = policy or Policy()
    if remembered and (job := _recall(jobs, remembered, mark, policy)):
        return Submission(job, created=False, reason="an earlier try recorded it")
    found = _find_settled(jobs, spec, mark, policy, is_retry=is_retry, sleep=sleep)
    decision = decide(found, mark, policy)
    if decision.action is Action.ATTACH and decision.job:
        return Submission(jobs.get_job(decision.job.name), created=False, reason=decision.reason)
    if decision.action is Action.REFUSE and decision.job:
        raise JobConflictError(
            decision.job,
            f"This task run already has the batch job {decision.job.name} ({decision.job.state.name}), "
            f"created with a different model, input or output. It keeps running and costs money. Cancel it, "
            f"or set on_changed_input='{OnChangedInput.CANCEL_AND_REPLACE.value}'.",
        )
    if before_create:
        spec = replace(spec, labels={**spec.labels, **(before_create() or {})})
    for job in decision.to_cancel:
        log.warning("Cancelling %s (%s): %s", job.name, job.state.name, decision.reason)
        _cancel(jobs, job)
    return _create(jobs, mark.put_on(spec), mark, decision, sleep, known={job.name for job in found})


def find_reusable(jobs: JobService, project: str, location: str, run: RunIdentity) -> BatchJob | None:
    """Find a job of this run that makes a new one unnecessary, whatever its request.

    It is active, has succeeded, or has ended otherwise with completed rows, which are charged.
    """
    for job in _of_run(jobs, project, location, Mark(run.key, "")):
        if is_active(job) or job.state.is_success or (job.output_location and job.stats.successful != 0):
            return jobs.get_job(job.name)
    return None


def cancel_run(jobs: JobService, spec: JobSpec, run: RunIdentity) -> list[JobName]:
    """Cancel every active job of this run, and return their names."""
    live = [job for job in _find(jobs, spec, Mark.of(run, spec)) if is_active(job)]
    for job in live:
        _cancel(jobs, job)
    return [job.name for job in live]


def _recall(jobs: JobService, name: JobName, mark: Mark, policy: Policy) -> BatchJob | None:
    try:
        job = jobs.get_job(name)
    except GeminiBatchError as error:
        log.info("Cannot read the job that an earlier try recorded (%s); looking the job up instead", error)
        return None
    return job if decide([job], mark, policy).action is Action.ATTACH else None


def _find_settled(
    jobs: JobService,
    spec: JobSpec,
    mark: Mark,
    policy: Policy,
    *,
    is_retry: bool,
    sleep: Callable[[float], None],
) -> Sequence[BatchJob]:
    """Find the jobs of this run; wait for one that is not listed yet, or is still being cancelled."""
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
    return found


def _create(
    jobs: JobService,
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
        log.warning("Creating the batch job failed (%s). Checking whether it was created anyway.", error)
        if job := _wait_for(jobs, spec, mark, sleep, known, waits):
            return Submission(job, created=True, reason="the response was lost; found by its display name")
        if isinstance(error, ApiError) and error.code in _REJECTED:
            raise
        raise SubmissionOutcomeUnknownError(spec.display_name, spec.parent, str(error)) from error


def _may_yet_succeed(found: Sequence[BatchJob], mark: Mark, policy: Policy) -> bool:
    """Whether the job to replace is still being cancelled: it succeeds if the cancellation is too late."""
    if decide(found, mark, policy).action is Action.ATTACH:
        return False
    return any(Mark.read(job) == mark and job.state is JobState.CANCELLING for job in found)


def _waits_after(error: ApiError | ServiceUnreachableError) -> Sequence[float]:
    """Seconds to wait before each look-up after a failed create; empty if no job can have been created."""
    if isinstance(error, ServiceUnreachableError):
        return () if error.never_sent else LOOKUP_WAITS
    if error.code in _REJECTED:
        return RETRY_WAITS
    return LOOKUP_WAITS if error.code == 408 or error.code >= 500 else ()


def _wait_for(
    jobs: JobService,
    spec: JobSpec,
    mark: Mark,
    sleep: Callable[[float], None],
    known: Collection[JobName],
    waits: Sequence[float],
) -> BatchJob | None:
    """Look for a job that did not exist before the create; a short one may have succeeded already."""
    for wait in waits:
        sleep(wait)
        try:
            found = _find(jobs, spec, mark)
        except (ApiError, ServiceUnreachableError) as error:
            log.warning("Looking the job up failed, trying again: %s", error)
            continue
        new = [job for job in found if Mark.read(job) == mark and job.name not in known]
        if usable := [job for job in new if job.state.is_success or is_active(job)]:
            return jobs.get_job(usable[-1].name)
    return None


def _find(jobs: JobService, spec: JobSpec, mark: Mark) -> Sequence[BatchJob]:
    return _of_run(jobs, spec.project, spec.location, mark)


def _of_run(jobs: JobService, project: str, location: str, mark: Mark) -> Sequence[BatchJob]:
    # The service may return more jobs than the filter describes; the mark in the display name decides.
    found = jobs.list_jobs(project, location, mark.list_filter)
    return [job for job in found if (theirs := Mark.read(job)) and theirs.run == mark.run]


def _cancel(jobs: JobService, job: BatchJob) -> None:
    try:
        jobs.cancel_job(job.name)
    except ApiError as error:
        if error.code != 400:
            raise
        log.info("%s had already ended", job.name)
