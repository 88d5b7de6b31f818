"""Connecting and waiting, and which errors a retry cannot fix."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobState
from airflow_gemini_batch.exceptions import (
    ApiError,
    CredentialsUnavailableError,
    GeminiBatchError,
    InvalidParameterError,
    JobEndedError,
    PollingError,
    WaitTimeoutError,
)
from airflow_gemini_batch.formats import duration
from airflow_gemini_batch.jobs.outcome import explain_end, may_run_again
from airflow_gemini_batch.jobs.polling import PollState, WaitOutcome, utc_now
from airflow_gemini_batch.metrics.polls import count_poll_error
from airflow_gemini_batch.tasks.options import ConnectionOptions
from airflow_gemini_batch.tasks.parameters import is_known, refused_when_parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.polling import PollStep
    from airflow_gemini_batch.tasks.options import EndOptions, WaitOptions
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger

log = logging.getLogger(__name__)

# Seconds before the second try to read the connection; doubled before each further one.
_CONNECT_WAITS = (1.0, 2.0, 4.0)
# A trigger reports at its deadline. If none does, since it is lost, Airflow ends the wait this much later.
TRIGGER_MARGIN = timedelta(hours=1)
# How long to try to read a job that a trigger has seen end.
_END_PATIENCE = timedelta(minutes=10)


def connect(operator: BaseOperator, waits: Sequence[float] = _CONNECT_WAITS) -> GeminiBatchHook:
    """Return a hook. Imported here, since DAG files are parsed without Google's SDKs.

    :param waits: seconds between two tries to read the connection
    :raises CredentialsUnavailableError: Airflow did not return the connection
    """
    from airflow_gemini_batch.hooks.errors import reading_credentials
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

    connection = ConnectionOptions.of(operator)
    for wait in (*waits, None):
        try:
            with reading_credentials(connection.gcp_conn_id):
                hook = GeminiBatchHook(
                    gcp_conn_id=connection.gcp_conn_id, impersonation_chain=connection.impersonation_chain
                )
                hook.reports_lineage = False  # The operators report more themselves.
                return hook
        except CredentialsUnavailableError:
            if wait is None:
                raise
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


class WaitsInTriggerer:
    """An operator that says what happens to its job when its trigger is lost."""

    if_trigger_is_lost: ClassVar[str] = (
        "The trigger of this task ended without reporting what became of the batch job ({}). The job is not "
        "cancelled, and may be running and cost money. A retry, or clearing this task, finds it again; the "
        "link 'Batch job' opens it in the console."
    )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Called by Airflow when the trigger has fired, has failed, or has timed out."""
        if next_method == "__fail__":
            reason = (next_kwargs or {}).get("error", "unknown")
            error = self.if_trigger_is_lost.format(reason)
            next_kwargs = {**(next_kwargs or {}), "error": error}
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]


def wait_in_triggerer(
    operator: BaseOperator, options: WaitOptions, name: JobName, kwargs: dict[str, Any] | None = None
) -> NoReturn:
    """Defer the task until the job has ended; ``execute_complete`` resumes it.

    :param kwargs: more arguments for ``execute_complete``
    """
    deadline = options.deadline()
    operator.defer(
        trigger=trigger_for(operator, options, name, deadline),
        method_name="execute_complete",
        kwargs=kwargs,
        timeout=deadline - utc_now() + TRIGGER_MARGIN,
    )
    raise AssertionError("defer() does not return")


def trigger_for(
    operator: BaseOperator, options: WaitOptions, name: JobName, deadline: datetime
) -> GeminiBatchJobTrigger:
    """Return the trigger that waits for a job. Imported here: it costs a DAG file 20 ms."""
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger

    connection = ConnectionOptions.of(operator)
    return GeminiBatchJobTrigger(
        job_name=str(name),
        poll_interval=options.poll_interval,
        deadline=deadline.isoformat(),
        cancel_on_kill=options.cancel_on_kill,
        gcp_conn_id=connection.gcp_conn_id,
        impersonation_chain=connection.impersonation_chain,
    )


def check_job_name_when_parsed(job_name: object, *, several: bool = False, allow_none: bool = False) -> None:
    """Check the name of a job if it is known when the DAG is parsed.

    :param several: whether a list of names is good as well
    :param allow_none: whether the list may be empty
    :raises InvalidParameterError: it is not a full resource name, or the list is empty
    """
    names = {"job_name": job_name}
    if several and isinstance(job_name, (list, tuple)):
        if not (job_name or allow_none):
            with refused_when_parsed():
                raise _no_jobs()
        names = {f"job_name[{number}]": name for number, name in enumerate(job_name)}
    for parameter, name in names.items():
        if is_known(name):
            with refused_when_parsed():
                JobName.parse(name, parameter=parameter)  # type: ignore[arg-type]


def job_names(given: object, *, allow_none: bool = False) -> tuple[JobName, ...]:
    """Parse the name of a job, or several names, such as the output of a mapped task. Each counts once.

    :raises InvalidParameterError: one is not a full resource name, or there is none and ``allow_none`` is not
        set
    """
    if isinstance(given, str):
        return (JobName.parse(given),)
    if not isinstance(given, Iterable) or isinstance(given, (bytes, Mapping)):
        JobName.parse(given)  # type: ignore[arg-type]  # raises
    each_of: Iterable[Any] = given  # type: ignore[assignment]
    names = dict.fromkeys(
        JobName.parse(each, parameter=f"job_name[{number}]") for number, each in enumerate(each_of)
    )
    if not (names or allow_none):
        raise _no_jobs()
    return tuple(names)


def _no_jobs() -> InvalidParameterError:
    """Return the error of an empty list of jobs."""
    return InvalidParameterError("job_name", [], "it has no jobs; give the name of at least one")


@contextmanager
def fail_without_retry(*kinds: type[GeminiBatchError]) -> Iterator[None]:
    """Fail the task without a retry on an error that the same values would cause again.

    The original error, with its attributes, is the cause of the one that is raised. An error of BigQuery is
    replaced, since its message may quote rows.

    :param kinds: errors that count as such, besides invalid parameters, permanent errors of the API, and jobs
        that ended in a way that a retry cannot mend
    """
    try:
        yield
    except GeminiBatchError as error:
        is_permanent = isinstance(error, (ApiError, PollingError)) and not error.is_transient
        is_permanent |= isinstance(error, JobEndedError) and not error.may_run_again
        if is_permanent or isinstance(error, (InvalidParameterError, *kinds)):
            raise AirflowFailException(str(error)) from error
        raise
    except Exception as error:
        from airflow_gemini_batch.gcp.bigquery_message import refusal

        if translated := refusal(error):
            raise translated.with_traceback(error.__traceback__) from None
        raise


def ended_well(job: BatchJob, options: EndOptions | None = None, task_id: str = "") -> BatchJob:
    """Return a job that succeeded, or whose completed rows are wanted.

    :param options: none for a round of resubmitted requests, of which completed rows are always wanted
    :raises JobEndedError: the job ended in another state
    """
    is_wanted = options is None or options.on_incomplete == "continue"
    if job.state.is_success:
        return job
    if is_wanted and job.is_charged and job.known_output:
        log.warning("%s The task goes on with the completed rows.", explain_end(job, is_used=True))
        return job
    explanation = explain_end(job, is_round=options is None, task_id=task_id)
    raise JobEndedError(job, explanation, may_run_again=may_run_again(job))


def job_of_event(hook: GeminiBatchHook, options: WaitOptions, event: Mapping[str, Any] | None) -> BatchJob:
    """Read the job that a trigger's event is about.

    :raises WaitTimeoutError: the deadline passed first
    :raises PollingError: the trigger could not read the job, or it cannot be read now
    """
    if not event or "job_name" not in event:
        raise GeminiBatchError(f"The trigger sent an event without a job name: {event!r}")
    if event["outcome"] == WaitOutcome.TIMEOUT.value:
        _timed_out(hook, options, JobName.parse(event["job_name"]), event.get("state"))
    if event["outcome"] == WaitOutcome.ERROR.value:
        # Events of earlier releases do not say whether a retry helps.
        raise PollingError(event["job_name"], event["message"], is_transient=event.get("retry_helps", True))
    patient = replace(options, wait_timeout=_END_PATIENCE, cancel_on_timeout=False)
    try:
        return wait_here(hook, patient, JobName.parse(event["job_name"]), JobState.parse(event.get("state")))
    except WaitTimeoutError as error:
        reason = (
            "a trigger has seen the job end, but since then it could not be read for "
            f"{duration(_END_PATIENCE)}. It no longer runs. A retry of this task reads it again."
        )
        raise PollingError(event["job_name"], reason, is_transient=True) from error


def wait_here(
    hook: GeminiBatchHook, options: WaitOptions, name: JobName, state: JobState | None = None
) -> BatchJob:
    """Wait on the worker until the job has ended.

    :param state: the state that was logged last
    :raises WaitTimeoutError: the deadline passed first
    :raises PollingError: the job could not be read, several times in a row
    """
    watch = PollState(options.poll_interval, options.deadline(), seed=str(name), state=state)
    while True:
        watch, step, job = look(lambda: hook, name, watch)
        if job and step.outcome is WaitOutcome.ENDED:
            return job
        if step.outcome is WaitOutcome.TIMEOUT:
            _timed_out(hook, options, name, watch.state.value if watch.state else None)
        time.sleep(step.wait)


def look(
    connect_: Callable[[], GeminiBatchHook], name: JobName, watch: PollState, *, log_state: bool = True
) -> tuple[PollState, PollStep, BatchJob | None]:
    """Poll a job once from the worker. There is no job after an error that does not end the wait.

    :param connect_: returns the hook; its failure is that of the poll
    :param log_state: whether to log a new state; failures are always logged
    :raises PollingError: the job could not be read, several times in a row
    """
    job = None
    try:
        job = connect_().get_job(name, retry=False)
        watch, step = watch.after_read(job, utc_now())
    except Exception as error:
        count_poll_error(name, error)
        watch, step = watch.after_error(error, utc_now())
        if step.outcome is WaitOutcome.ERROR:
            raise PollingError(str(name), step.message, is_transient=step.retry_helps) from error
    if step.message and (log_state or step.is_warning):
        log.log(logging.WARNING if step.is_warning else logging.INFO, "%s", step.message)
    return watch, step, job


def cancel_late(connect_: Callable[[], GeminiBatchHook], options: WaitOptions, name: JobName) -> str:
    """Cancel a job whose wait timed out, if the user wants that, and say what happens to it."""
    if not options.cancel_on_timeout:
        return (
            "It keeps running and costs money. Clear this task to wait for it again, or cancel the job in "
            "the console if you no longer need it."
        )
    try:
        if connect_().cancel_job(name):
            return "It is being cancelled (cancel_on_timeout); completed rows are charged and kept."
        return "It has ended since; clear this task to go on with its results."
    except GeminiBatchError as error:
        return f"Cancelling it failed, so it keeps running and costs money: {error}"


def _timed_out(hook: GeminiBatchHook, options: WaitOptions, name: JobName, state: str | None) -> NoReturn:
    consequence = cancel_late(lambda: hook, options, name)
    seen = f"last state: {state}" if state else "its state was never read"
    raise WaitTimeoutError(
        str(name), f"The batch job {name} had not ended at the deadline ({seen}). {consequence}"
    )
