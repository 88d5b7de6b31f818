"""What the operators and the sensor have in common: waiting, and errors that a retry cannot mend."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    InvalidParameterError,
    JobEndedError,
    WaitTimeoutError,
)
from airflow_gemini_batch.jobs.identity import RunIdentity
from airflow_gemini_batch.jobs.outcome import explain_end
from airflow_gemini_batch.jobs.polling import Outcome, Watch, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger


class Face(Protocol):
    """What every operator and the sensor have."""

    gcp_conn_id: str
    impersonation_chain: str | Sequence[str] | None


class WaitingFace(Face, Protocol):
    """A face that waits."""

    poll_interval: float


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
        gcp_conn_id=face.gcp_conn_id,
        impersonation_chain=face.impersonation_chain,
    )


def seconds_of(timeout: timedelta | float) -> timedelta:
    """A time-out given in seconds or as a timedelta."""
    return timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)


def run_identity(context: Context) -> RunIdentity:
    """The identity of the task run that is executing."""
    ti = context["ti"]
    map_index = ti.map_index if ti.map_index is not None else -1
    return RunIdentity(ti.dag_id, ti.task_id, ti.run_id, map_index)


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


def job_of_event(event: Mapping[str, Any] | None, hook: GeminiBatchHook) -> BatchJob:
    """Read the job that a trigger's event is about.

    :raises WaitTimeoutError: the deadline passed first
    :raises GeminiBatchError: the trigger could not read the job
    """
    if not event or "job_name" not in event:
        raise GeminiBatchError(f"The trigger sent an event without a job name: {event!r}")
    if event["outcome"] == Outcome.TIMEOUT.value:
        _timed_out(event["job_name"], event.get("state"))
    if event["outcome"] == Outcome.ERROR.value:
        raise GeminiBatchError(
            f"{event['message']} The batch job {event['job_name']} may go on and cost money; clearing this "
            "task looks at it again."
        )
    return hook.get_job(JobName.parse(event["job_name"]))


def wait_here(
    hook: GeminiBatchHook, name: JobName, *, poll_interval: float, deadline: datetime, log: Any
) -> BatchJob:
    """Wait on the worker until the job has ended.

    :raises WaitTimeoutError: the deadline passed first
    """
    watch = Watch(poll_interval=poll_interval, deadline=deadline, seed=str(name))
    while True:
        job = None
        failure: GeminiBatchError | None = None
        try:
            job = hook.get_job(name, attempts=1)
            watch, step = watch.saw(job, utc_now())
        except GeminiBatchError as error:
            failure = error
            watch, step = watch.failed(error, utc_now())
        if step.message:
            (log.warning if step.is_warning else log.info)(step.message)
        if step.outcome is Outcome.ENDED and job:
            return job
        if step.outcome is Outcome.ERROR and failure:
            raise failure
        if step.outcome is Outcome.TIMEOUT:
            _timed_out(str(name), watch.state.value if watch.state else None)
        time.sleep(step.wait)


def _timed_out(job_name: str, state: str | None) -> NoReturn:
    raise WaitTimeoutError(
        job_name,
        f"The batch job {job_name} had not ended at the deadline (last seen: {state or 'not seen'}). "
        "It goes on and costs money. Clearing this task waits for it again; cancel it in the console if it "
        "is not wanted.",
    )
