"""What the operators and the sensor have in common: waiting, and errors that a retry cannot mend."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    InvalidParameterError,
    JobEndedError,
    WaitTimeoutError,
)
from airflow_gemini_batch.jobs.outcome import explain_end
from airflow_gemini_batch.jobs.polling import PollState, WaitOutcome, utc_now
from airflow_gemini_batch.tasks.airflow_versions import was_stopped_by_user

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.polling import PollStep
    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger


_E = TypeVar("_E", bound=Enum)


class Face(Protocol):
    """What every operator and the sensor have."""

    gcp_conn_id: str
    impersonation_chain: str | Sequence[str] | None


class LoggingFace(Face, Protocol):
    """A face that says what it does."""

    @property
    def log(self) -> Any:
        """The task's log."""


class WaitingFace(LoggingFace, Protocol):
    """A face that waits."""

    poll_interval: float
    cancel_on_kill: bool
    cancel_on_timeout: bool


def connect(face: Face) -> GeminiBatchHook:
    """The hook of a face's connection. Imported here: a DAG file is parsed without Google's SDKs."""
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

    return GeminiBatchHook(gcp_conn_id=face.gcp_conn_id, impersonation_chain=face.impersonation_chain)


def trigger_for(face: WaitingFace, name: JobName, deadline: datetime) -> GeminiBatchJobTrigger:
    """The trigger that waits for a job in the face's stead. Imported here: it costs a DAG file 20 ms."""
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger

    return GeminiBatchJobTrigger(
        job_name=str(name),
        poll_interval=face.poll_interval,
        deadline=deadline.isoformat(),
        cancel_on_kill=face.cancel_on_kill,
        gcp_conn_id=face.gcp_conn_id,
        impersonation_chain=face.impersonation_chain,
    )


def choice(kind: type[_E], parameter: str, value: object) -> _E:
    """One of the values of an enum.

    :raises InvalidParameterError: it is none of them; says which there are
    """
    try:
        return kind(value)
    except ValueError:
        known = " or ".join(repr(member.value) for member in kind)
        raise InvalidParameterError(parameter, value, f"give {known}") from None


def seconds_of(timeout: timedelta | float) -> timedelta:
    """A time-out given in seconds or as a timedelta."""
    return timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)


@contextmanager
def fail_without_retry(*kinds: type[GeminiBatchError]) -> Iterator[None]:
    """Fail the task for good on an error that the same values would meet again.

    The error itself, with its attributes, is the cause of what is raised.
    """
    try:
        yield
    except GeminiBatchError as error:
        hopeless = isinstance(error, ApiError) and not error.is_transient
        if hopeless or isinstance(error, (InvalidParameterError, *kinds)):
            raise AirflowFailException(str(error)) from error
        raise


def ended_well(job: BatchJob, *, accept_incomplete: bool = False) -> BatchJob:
    """Return a job that ended well.

    :param accept_incomplete: take FAILED, CANCELLED and EXPIRED too, if output was written
    :raises JobEndedError: the job ended otherwise
    """
    if job.state.is_success or (accept_incomplete and job.output_location):
        return job
    raise JobEndedError(job, explain_end(job))


def job_of_event(face: WaitingFace, hook: GeminiBatchHook, event: Mapping[str, Any] | None) -> BatchJob:
    """Read the job that a trigger's event is about.

    :raises WaitTimeoutError: the deadline passed first
    :raises GeminiBatchError: the trigger could not read the job
    """
    if not event or "job_name" not in event:
        raise GeminiBatchError(f"The trigger sent an event without a job name: {event!r}")
    if event["outcome"] == WaitOutcome.TIMEOUT.value:
        _timed_out(face, hook, JobName.parse(event["job_name"]), event.get("state"))
    if event["outcome"] == WaitOutcome.ERROR.value:
        raise GeminiBatchError(
            f"{event['message']} The batch job {event['job_name']} may go on and cost money; clearing this "
            "task looks at it again."
        )
    return hook.get_job(JobName.parse(event["job_name"]))


def wait_here(face: WaitingFace, hook: GeminiBatchHook, name: JobName, deadline: datetime) -> BatchJob:
    """Wait on the worker until the job has ended.

    :raises WaitTimeoutError: the deadline passed first
    """
    watch = PollState(poll_interval=face.poll_interval, deadline=deadline, seed=str(name))
    while True:
        watch, step, job = look(face, hook, name, watch)
        if job and step.outcome is WaitOutcome.ENDED:
            return job
        if step.outcome is WaitOutcome.TIMEOUT:
            _timed_out(face, hook, name, watch.state.value if watch.state else None)
        time.sleep(step.wait)


def look(
    face: WaitingFace, hook: GeminiBatchHook, name: JobName, watch: PollState
) -> tuple[PollState, PollStep, BatchJob | None]:
    """Look at a job once from the worker. A look that fails for a passing reason answers no job.

    :raises GeminiBatchError: it failed for a lasting reason, several times
    """
    job = None
    try:
        job = hook.get_job(name, retry=False)
        watch, step = watch.after_read(job, utc_now())
    except GeminiBatchError as error:
        watch, step = watch.after_error(error, utc_now())
        if step.outcome is WaitOutcome.ERROR:
            raise
    if step.message:
        (face.log.warning if step.is_warning else face.log.info)(step.message)
    return watch, step, job


def cancel_late(face: WaitingFace, hook: GeminiBatchHook, name: JobName) -> str:
    """Cancel a job that is late, if the user wants that; say in words what becomes of it."""
    if not face.cancel_on_timeout:
        return (
            "It goes on and costs money. Clearing this task waits for it again; cancel it in the console "
            "if it is not wanted."
        )
    hook.cancel_job(name)
    return "It was asked to cancel; rows that are done are charged and kept."


def cancel_unwanted(
    face: WaitingFace, ti: Any, hook: GeminiBatchHook, spec: JobSpec, run: RunIdentity
) -> None:
    """The running task is told to end: cancel its jobs if a user wanted that, not if a worker stops."""
    from airflow_gemini_batch.jobs.submission import cancel_run

    if not face.cancel_on_kill or not was_stopped_by_user(ti):
        face.log.info("The batch job of this run, if there is one, goes on and costs money")
        return
    for name in cancel_run(hook, spec, run):
        face.log.info("Asked for the batch job %s to be cancelled. What is done is charged.", name)


def _timed_out(face: WaitingFace, hook: GeminiBatchHook, name: JobName, state: str | None) -> NoReturn:
    fate = cancel_late(face, hook, name)
    seen = f"last seen: {state}" if state else "never seen"
    raise WaitTimeoutError(str(name), f"The batch job {name} had not ended at the deadline ({seen}). {fate}")
