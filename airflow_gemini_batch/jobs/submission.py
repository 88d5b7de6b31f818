"""Idempotent submission: look up, decide, create; look up again if the response to the create is lost.

The API has no idempotency key for creating jobs, so a create whose response is lost may have created one.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    InvalidParameterError,
    JobConflictError,
    JobEndedError,
    ServiceUnreachableError,
    SubmissionOutcomeUnknownError,
    SubmitStoppedError,
    SubmitTimeoutError,
)
from airflow_gemini_batch.formats import duration
from airflow_gemini_batch.gcp.wildcards import disputed_error
from airflow_gemini_batch.jobs.decision import Action, Match, Policy, Request, decide
from airflow_gemini_batch.jobs.identity import TRIES_LABEL, marked
from airflow_gemini_batch.jobs.lookup import Lookup
from airflow_gemini_batch.jobs.outcome import explain_end
from airflow_gemini_batch.jobs.polling import utc_now
from airflow_gemini_batch.jobs.quota import DEFAULT_SUBMIT_TIMEOUT, QuotaStreak

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.jobs.decision import Decision
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.lookup import JobService
    from airflow_gemini_batch.jobs.spec import JobSpec

log = logging.getLogger(__name__)

# How soon a new job is listed is not documented: look for it for about two minutes.
LOOKUP_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
# The create of an earlier try may still be under way: it times out after a minute.
RETRY_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# A create rejected with this code should have created nothing, but no documentation says so: look.
_CONFLICT = 409
_REJECTED_WAITS = RETRY_WAITS[:4]
# Seconds after which another try of this run may have started: a worker that stalls is declared dead.
_STALLED = 5.0
# Seconds for which a look-up of the first try holds. Another try that starts meanwhile looks for a minute
# before it creates a job, so it finds one that is created this soon.
_FRESH = 20.0
# Seconds for which the checks before a create hold: the claim of a retry round lasts an hour.
_CHECKED = 1200.0
# Seconds between two looks at whether the task was stopped.
_SLICE = 1.0


@dataclass(frozen=True)
class Submission:
    """The job of this run, and whether this call created it."""

    job: BatchJob
    created: bool
    reason: str


def submit(
    jobs: JobService,
    spec: JobSpec,
    run: RunIdentity,
    policy: Policy | None = None,
    *,
    remembered: JobName | None = None,
    checksum: Callable[[], tuple[str, ...] | None] = lambda: None,
    before_create: Callable[[], Mapping[str, str] | None] | None = None,
    submit_timeout: timedelta = DEFAULT_SUBMIT_TIMEOUT,
    is_stopped: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Submission:
    """Ensure that exactly one job exists for this run and this request, and return it.

    The job may have ended already, also as FAILED, CANCELLED or EXPIRED if it has completed rows.

    :param remembered: the job that an earlier try recorded, if any; saves a look-up if it still matches, but
        is verified first
    :param checksum: queries the content of the input table; called only if needed
    :param before_create: called if there is no job to attach to; may return more labels for the job, or raise
        to prevent its creation. It is called again if creating the job has to wait for long
    :param submit_timeout: how long to try again while the quota of create requests is used up
    :param is_stopped: whether the task was stopped; no job is created from then on
    :param sleep: waits the given number of seconds
    :param clock: returns seconds that never go back
    :raises ApiError: the service rejected the job; nothing was created
    :raises InvalidParameterError: there is no job yet, and the input does not exist or is not clear; or
        another job writes to the same output table
    :raises JobConflictError: the policy does not allow replacing the existing job, or it cannot be told
        whether the job answers the present input
    :raises JobEndedError: the job of an earlier try ended, nothing is charged, and a retry would end the same
    :raises SubmissionOutcomeUnknownError: it is unknown whether a job was created
    :raises SubmitStoppedError: the task was stopped; nothing was created
    :raises SubmitTimeoutError: the quota had no room; nothing was created
    """
    submitter = _Submitter(
        jobs, Request(run, spec), policy or Policy(), submit_timeout, is_stopped, sleep, clock
    )
    return submitter.submit(remembered, checksum, before_create or (lambda: None))


class _OverQuotaError(Exception):
    """The create request was refused with 429; reads that are refused raise :class:`ApiError`."""

    def __init__(self, error: ApiError) -> None:
        self.error = error
        super().__init__(str(error))


@dataclass
class _Submitter:
    """One submission.

    :param request: gets the content of the input table as soon as it is needed
    :param recalled: the job that an earlier try recorded
    :param looked: when the last look-up was sent
    """

    jobs: JobService
    request: Request
    policy: Policy
    submit_timeout: timedelta
    is_stopped: Callable[[], bool]
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    recalled: BatchJob | None = None
    looked: float = 0.0

    @property
    def lookup(self) -> Lookup:
        spec = self.request.spec
        return Lookup(self.jobs, spec.project, spec.location, self.request.run)

    def submit(
        self,
        remembered: JobName | None,
        checksum: Callable[[], tuple[str, ...] | None],
        before_create: Callable[[], Mapping[str, str] | None],
    ) -> Submission:
        self.recalled = self._recall(remembered) if remembered else None
        if self.recalled and self._is_usable(self.recalled):
            return Submission(self.recalled, created=False, reason="an earlier try recorded it")
        found = self._find_settled()
        decision = decide(found, self.request, self.policy)
        if decision.action is not Action.ATTACH:
            self._complete(checksum)
            decision = decide(found, self.request, self.policy)
        if not decision.creates:
            return self._existing(decision)
        if missing := self.request.spec.input.missing:
            fix = "it does not exist; check the name"
            raise InvalidParameterError("input_uri", missing, fix)
        if disputed := self.request.spec.input.disputed:
            raise disputed_error(disputed.uri, disputed.names)
        if twice := self.request.spec.input.repeated:
            raise twice.error()
        self._check_output()
        return self._create_within_quota(found, before_create)

    def _create_within_quota(
        self, found: Sequence[BatchJob], before_create: Callable[[], Mapping[str, str] | None]
    ) -> Submission:
        """Create the job, unless another try has done so meanwhile; wait while the quota is used up."""
        streak: QuotaStreak | None = None
        labels, checked = before_create() or {}, self.clock()
        while True:
            if self.clock() - checked > _CHECKED:
                labels, checked = before_create() or {}, self.clock()
            found, decision = self._decided_again(found)
            if not decision.creates:
                submission = self._existing(decision)
                break
            try:
                submission = self._create(labels, decision, known={job.name for job in found})
                break
            except _OverQuotaError as refused:
                streak = self._wait_for_quota(streak, refused.error)
        if streak and submission.created:
            log.info("%s", streak.ends(self.clock()))
        return submission

    def _decided_again(self, found: Sequence[BatchJob]) -> tuple[Sequence[BatchJob], Decision]:
        """Decide right before a create, and cancel the jobs that are to be replaced.

        Another try of this run may have created a job since the last look-up; and a job that ends before it
        is cancelled may be charged, which changes what is allowed.
        """
        if not self.policy.is_first_try or self.clock() - self.looked > _FRESH:
            found = self._find()
        decision = decide(found, self.request, self.policy)
        if decision.creates and not self._cancelled(decision):
            found = self._find()
            decision = decide(found, self.request, self.policy)
            if decision.creates:
                self._cancelled(decision)
        return found, decision

    def _wait_for_quota(self, streak: QuotaStreak | None, error: ApiError) -> QuotaStreak:
        """Wait after a create that was refused.

        The look-up before the next create also finds the job if the service has made it nevertheless.

        :raises SubmitTimeoutError: it has been refused for too long
        """
        if streak is None:
            streak = QuotaStreak(self.clock(), self.submit_timeout)
            log.warning("%s", streak.begins(error, utc_now()))
        streak = streak.refused()
        now = self.clock()
        if streak.is_over(now):
            self._pause(_REJECTED_WAITS[0])
            if decide(self._find(), self.request, self.policy).creates:
                waited = duration(timedelta(seconds=now - streak.began))
                raise SubmitTimeoutError(waited, streak.refusals, error) from error
        else:
            self._pause(streak.wait(now))
        self.looked = -math.inf
        return streak

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the task is stopped."""
        ends = self.clock() + seconds
        while (left := ends - self.clock()) > 0:
            self._check_not_stopped()
            self.sleep(min(left, _SLICE))

    def _check_not_stopped(self) -> None:
        if self.is_stopped():
            raise SubmitStoppedError

    def _cancelled(self, decision: Decision) -> bool:
        """Cancel the jobs that are to be replaced; return whether all were still running."""
        done = True
        for job in decision.to_cancel:
            log.warning("Cancelling batch job %s (%s): %s", job.name.job_id, job.state.name, decision.reason)
            done &= self.jobs.cancel_job(job.name)
        return done

    def _existing(self, decision: Decision) -> Submission:
        """Return the job that was found, or say why it cannot be used."""
        job = decision.job
        if job is None:
            raise ValueError(f"no job to {decision.action.value}")
        if decision.action is Action.REFUSE:
            raise JobConflictError(
                job,
                f"This task run already has the batch job {job.name} ({job.state.name}): {decision.reason}",
            )
        if decision.action is Action.STOP:
            raise JobEndedError(job, explain_end(job))
        return Submission(self.jobs.get_job(job.name), created=False, reason=decision.reason)

    def _recall(self, name: JobName) -> BatchJob | None:
        try:
            return self.jobs.get_job(name)
        except GeminiBatchError as error:
            log.info("Looking up the job of an earlier try, since the recorded one cannot be read: %s", error)
            return None

    def _is_usable(self, job: BatchJob) -> bool:
        is_mine = decide([job], self.request, self.policy).action is Action.ATTACH
        return is_mine and job.state is not JobState.CANCELLING

    def _complete(self, checksum: Callable[[], tuple[str, ...] | None]) -> None:
        spec = self.request.spec
        if spec.input.content is None and spec.input.metadata is not None and (content := checksum()):
            facts = replace(spec.input, content=content)
            self.request = replace(self.request, spec=replace(spec, input=facts))

    def _find(self, *, by_name: bool = False) -> list[BatchJob]:
        """Find the jobs of this run, and those of other map indexes for the same request."""
        lookup, spec = self.lookup, self.request.spec
        self.looked = self.clock()
        # The first try of a mapped task has created none, and the look-up by request covers its own.
        found = [] if self.policy.is_first_try and lookup.run.mapped_key else lookup.of_run()
        if not _is_found(found, self.request):
            seen = {job.name for job in found}
            more = lookup.of_mapped(spec) + (lookup.by_name(spec) if by_name else [])
            found += [job for job in more if job.name not in seen]
        # The look-up searches one project and location, which may have changed since.
        if self.recalled and self.recalled.name not in {job.name for job in found}:
            found.append(self.recalled)
        return found

    def _find_settled(self) -> list[BatchJob]:
        """Find the jobs; wait for one that is not listed yet, or is still being cancelled."""
        found = self._find(by_name=not self.policy.is_first_try)
        if not self.policy.is_first_try and decide(found, self.request, self.policy).creates:
            log.info(
                "No batch job to attach to. Looking for a minute: an earlier try may still be creating one."
            )
            for wait in RETRY_WAITS:
                self.sleep(wait)
                found = self._find()
                if not decide(found, self.request, self.policy).creates:
                    break
        for wait in LOOKUP_WAITS:
            job = decide(found, self.request, self.policy).job
            if job is None or job.state is not JobState.CANCELLING:
                break
            self.sleep(wait)
            found = self._find()
        return found

    def _check_output(self, created: BatchJob | None = None) -> None:
        """Refuse an output table that another job was given: what the service does then is not known.

        :param created: the job of this run; it is cancelled if the other one was first
        """
        spec = self.request.spec
        rivals = self.lookup.with_output(spec) if spec.has_output_table else []
        mine = next((each for each in rivals if created and each.name == created.name), None)
        for job in rivals:
            if self.request.match(job) is Match.SAME or (job.state.is_terminal and not job.is_charged):
                continue
            if mine and _age(job) > _age(mine):
                continue
            if mine:
                self.jobs.cancel_job(mine.name)
            raise InvalidParameterError(
                "output_uri",
                spec.output_uri,
                f"the batch job {job.name} ({job.state.name}) was given the same table by another task, "
                "run or installation, and rows of two jobs in one table cannot be told apart; give each job "
                "a table of its own, for example with the run_id and {{ ti.map_index }} in its name, or "
                "give only the dataset. Give each Airflow installation a dataset of its own",
            )

    def _create(
        self, labels: Mapping[str, str], decision: Decision, known: Collection[JobName]
    ) -> Submission:
        spec = self.request.spec
        own = {**spec.labels, **labels}
        if self.policy.max_tries is not None:
            own[TRIES_LABEL] = str(self.policy.max_tries)
        spec = marked(replace(spec, labels=own), self.request.run)
        self._check_not_stopped()
        started = self.clock()
        try:
            job = self.jobs.create_job(spec)
        except (ApiError, ServiceUnreachableError) as error:
            if isinstance(error, ApiError) and error.is_over_quota:
                raise _OverQuotaError(error) from error
            waits = _waits_after(error)
            if not waits:
                raise
            log.warning("Creating the batch job failed. Checking whether it was created anyway. %s", error)
            if found := self._wait_for(known, waits):
                return Submission(found, created=True, reason="the response was lost; found by its mark")
            if isinstance(error, ApiError) and error.code == _CONFLICT:
                raise
            raise SubmissionOutcomeUnknownError(spec.display_name, spec.parent, str(error)) from error
        self._check_output(job)
        has_stalled = self.clock() - started > _STALLED or self.clock() - self.looked > _FRESH + _STALLED
        if has_stalled or not self.policy.is_first_try:
            return self._without_rivals(job, decision)
        return Submission(job, created=True, reason=decision.reason)

    def _without_rivals(self, job: BatchJob, decision: Decision) -> Submission:
        """Keep one job if two tries of this run created theirs at once: the one that was created first."""
        found = [each for each in self._find() if self.request.match(each) is Match.SAME]
        running = [each for each in found if each.is_active or each.state.is_success]
        first = min(running, key=_age, default=job)
        if first.name == job.name or job.name not in {each.name for each in running}:
            return Submission(job, created=True, reason=decision.reason)
        log.warning(
            "Cancelling batch job %s: another try created %s at the same time",
            job.name.job_id,
            first.name.job_id,
        )
        self.jobs.cancel_job(job.name)
        return Submission(first, created=False, reason="another try created it at the same time")

    def _wait_for(self, known: Collection[JobName], waits: Sequence[float]) -> BatchJob | None:
        """Look for a job that did not exist before the create; a short one may have ended already."""
        for number, wait in enumerate(waits):
            self.sleep(wait)
            try:
                found = self._find(by_name=number == len(waits) - 1)
            except (ApiError, ServiceUnreachableError) as error:
                log.warning("Looking the job up failed, trying again: %s", error)
                continue
            new = [job for job in found if job.name not in known and self.request.match(job) is Match.SAME]
            if job := decide(new, self.request, self.policy).job:
                return self.jobs.get_job(job.name)
        return None


def _age(job: BatchJob) -> tuple[str, str]:
    return job.create_time.isoformat() if job.create_time else "", str(job.name)


def _is_found(found: Sequence[BatchJob], request: Request) -> bool:
    return any(request.match(job) is Match.SAME for job in found)


def _waits_after(error: ApiError | ServiceUnreachableError) -> Sequence[float]:
    """Seconds to wait before each look-up after a failed create; empty if no job can have been created."""
    if isinstance(error, ServiceUnreachableError):
        return () if error.never_sent else LOOKUP_WAITS
    if error.code == _CONFLICT:
        return _REJECTED_WAITS
    return LOOKUP_WAITS if error.is_transient else ()
