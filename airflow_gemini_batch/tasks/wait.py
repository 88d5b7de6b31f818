"""Connecting and waiting, and which errors a retry cannot fix."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    InvalidParameterError,
    JobEndedError,
    WaitTimeoutError,
)
from airflow_gemini_batch.jobs.outcome import explain_end, may_run_again
from airflow_gemini_batch.jobs.polling import PollState, WaitOutcome, utc_now
from airflow_gemini_batch.tasks.airflow_versions import was_stopped_by_user
from airflow_gemini_batch.tasks.options import ConnectionOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import BaseOperator

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.polling import PollStep
    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.tasks.options import EndOptions, WaitOptions
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger

log = logging.getLogger(__name__)

_E = TypeVar("_E", bound=Enum)


def connect(operator: BaseOperator) -> GeminiBatchHook:
    """Return a hook. Imported here, since DAG files are parsed without Google's SDKs."""
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

    connection = ConnectionOptions.of(operator)
    return GeminiBatchHook(
        gcp_conn_id=connection.gcp_conn_id, impersonation_chain=connection.impersonation_chain
    )


def trigger_for(operator: BaseOperator, options: WaitOptions, name: JobName) -> GeminiBatchJobTrigger:
    """Return the trigger that waits for a job, from now on. Imported here: it costs a DAG file 20 ms."""
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger

    connection = ConnectionOptions.of(operator)
    return GeminiBatchJobTrigger(
        job_name=str(name),
        poll_interval=options.poll_interval,
        deadline=options.deadline().isoformat(),
        cancel_on_kill=options.cancel_on_kill,
        gcp_conn_id=connection.gcp_conn_id,
        impersonation_chain=connection.impersonation_chain,
    )


def choice(kind: type[_E], parameter: str, value: object) -> _E:
    """Return the member of an enum that a parameter names.

    :raises InvalidParameterError: there is no such member; lists those that exist
    """
    try:
        return kind(value)
    except ValueError:
        known = " or ".join(repr(member.value) for member in kind)
        raise InvalidParameterError(parameter, value, f"give {known}") from None


@contextmanager
def fail_without_retry(*kinds: type[GeminiBatchError]) -> Iterator[None]:
    """Fail the task without a retry on an error that the same values would cause again.

    The original error, with its attributes, is the cause of the one that is raised.

    :param kinds: errors that count as such, besides invalid parameters, permanent errors of the API, and jobs
        that ended in a way that a retry cannot mend
    """
    try:
        yield
    except GeminiBatchError as error:
        is_permanent = (isinstance(error, ApiError) and not error.is_transient) or (
            isinstance(error, JobEndedError) and not error.may_run_again
        )
        if is_permanent or isinstance(error, (InvalidParameterError, *kinds)):
            raise AirflowFailException(str(error)) from error
        raise


def ended_well(job: BatchJob, options: EndOptions | None = None) -> BatchJob:
    """Return a job that succeeded, or whose completed rows are wanted.

    :param options: without them, completed rows are wanted
    :raises JobEndedError: the job ended in another state
    """
    is_wanted = options is None or options.on_incomplete == "continue"
    if job.state.is_success:
        return job
    if is_wanted and job.is_charged and job.output_location:
        log.warning("%s The task goes on with the completed rows.", explain_end(job, is_used=True))
        return job
    raise JobEndedError(job, explain_end(job), may_run_again=may_run_again(job))


def job_of_event(hook: GeminiBatchHook, options: WaitOptions, event: Mapping[str, Any] | None) -> BatchJob:
    """Read the job that a trigger's event is about.

    :raises WaitTimeoutError: the deadline passed first
    :raises GeminiBatchError: the trigger could not read the job
    """
    if not event or "job_name" not in event:
        raise GeminiBatchError(f"The trigger sent an event without a job name: {event!r}")
    if event["outcome"] == WaitOutcome.TIMEOUT.value:
        _timed_out(hook, options, JobName.parse(event["job_name"]), event.get("state"))
    if event["outcome"] == WaitOutcome.ERROR.value:
        raise GeminiBatchError(
            f"{event['message']} The batch job {event['job_name']} may still be running and cost money; "
            "clear this task to wait for it again."
        )
    return hook.get_job(JobName.parse(event["job_name"]))


def wait_here(hook: GeminiBatchHook, options: WaitOptions, name: JobName) -> BatchJob:
    """Wait on the worker until the job has ended.

    :raises WaitTimeoutError: the deadline passed first
    """
    watch = PollState(poll_interval=options.poll_interval, deadline=options.deadline(), seed=str(name))
    while True:
        watch, step, job = look(hook, name, watch)
        if job and step.outcome is WaitOutcome.ENDED:
            return job
        if step.outcome is WaitOutcome.TIMEOUT:
            _timed_out(hook, options, name, watch.state.value if watch.state else None)
        time.sleep(step.wait)


def look(
    hook: GeminiBatchHook, name: JobName, watch: PollState
) -> tuple[PollState, PollStep, BatchJob | None]:
    """Poll a job once from the worker. After a transient error there is no job.

    :raises GeminiBatchError: a permanent error, several times in a row
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
        log.log(logging.WARNING if step.is_warning else logging.INFO, "%s", step.message)
    return watch, step, job


def cancel_late(hook: GeminiBatchHook, options: WaitOptions, name: JobName) -> str:
    """Cancel a job whose wait timed out, if the user wants that, and say what happens to it."""
    if not options.cancel_on_timeout:
        return (
            "It keeps running and costs money. Clear this task to wait for it again, or cancel the job in "
            "the console if you no longer need it."
        )
    hook.cancel_job(name)
    return "It is being cancelled; completed rows are charged and kept."


def cancel_unwanted(
    hook: GeminiBatchHook, options: WaitOptions, ti: Any, spec: JobSpec, run: RunIdentity
) -> None:
    """Cancel the jobs of a killed task if a user stopped it; the shutdown of a worker cancels nothing."""
    from airflow_gemini_batch.jobs.lookup import cancel_run

    if not options.cancel_on_kill or not was_stopped_by_user(ti):
        log.info("If this task run has a batch job, the job keeps running and costs money")
        return
    for name in cancel_run(hook, spec, run):
        log.info("Requested cancellation of batch job %s. Completed rows are charged.", name)


def _timed_out(hook: GeminiBatchHook, options: WaitOptions, name: JobName, state: str | None) -> NoReturn:
    consequence = cancel_late(hook, options, name)
    seen = f"last state: {state}" if state else "its state was never read"
    raise WaitTimeoutError(
        str(name), f"The batch job {name} had not ended at the deadline ({seen}). {consequence}"
    )
