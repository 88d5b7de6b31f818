"""The sensor that waits for a batch job, by default without occupying a worker."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import JobEndedError, WaitTimeoutError
from airflow_gemini_batch.jobs.outcome import summarise
from airflow_gemini_batch.jobs.polling import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    PollState,
    WaitOutcome,
)
from airflow_gemini_batch.tasks.links import BatchJobLink
from airflow_gemini_batch.tasks.options import ConnectionOptions, EndOptions, WaitOptions, documented, store
from airflow_gemini_batch.tasks.wait import (
    cancel_late,
    connect,
    ended_well,
    fail_without_retry,
    job_of_event,
    look,
    trigger_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context


@documented(WaitOptions, EndOptions, ConnectionOptions, without=["wait_timeout"])
class GeminiBatchJobSensor(BaseSensorOperator):
    """Waits until a Gemini batch job has ended.

    SUCCEEDED and PARTIALLY_SUCCEEDED succeed. FAILED, CANCELLED and EXPIRED fail the task with the service's
    reason, the number of completed rows and the location of their output. In any other state the sensor
    keeps waiting.

    Returns a dict with ``job_name``, ``state``, ``display_name``, ``model``, ``input_uris``,
    ``output_location``, ``completion_stats``, ``error``, ``create_time``, ``start_time``, ``end_time``.

    :param job_name: full resource name of the job, as returned by :class:`GeminiBatchSubmitOperator`
        (templated)
    :param cancel_on_kill: cancel the job when a user clears the sensor or marks it as failed or succeeded,
        while it is deferred (Airflow 3.3 or later). Off by default: clearing a sensor usually means to wait
        again
    :param timeout: how long to wait, in seconds or as a ``timedelta``; 96 hours by default, since a job may
        queue for 72 and run for 24
    """

    template_fields: Sequence[str] = ("job_name", *ConnectionOptions.templated)
    operator_extra_links = (BatchJobLink(),)
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        job_name: str,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        deferrable: bool = True,
        on_incomplete: str = "fail",
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = {**locals(), "wait_timeout": timeout}
        kwargs.setdefault("poke_interval", poll_interval)
        super().__init__(timeout=timeout, **kwargs)
        store(self, shared, WaitOptions, EndOptions, ConnectionOptions)
        self.job_name = job_name
        self._watch: PollState | None = None

    def execute(self, context: Context) -> Any:
        """Poll once; defer (or poke) if the job has not ended."""
        with self._failures():
            options, name = WaitOptions.of(self), JobName.parse(self.job_name)
            EndOptions.of(self)  # Checked before the wait.
        BatchJobLink.persist(context, name)
        if not options.deferrable:
            return self._poke_until_timeout(context, options, name)
        with self._failures():
            job = connect(self).get_job(name)
            if job.state.is_terminal:
                return self._finish(job)
        return self._defer(options, job)

    def _defer(self, options: WaitOptions, job: BatchJob) -> NoReturn:
        self.log.info("Batch job %s is %s. Waiting in the triggerer.", job.name, job.state.name)
        self.defer(trigger=trigger_for(self, options, job.name), method_name="execute_complete")
        raise AssertionError("defer() does not return")

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume after the trigger has fired: read the job again and finish."""
        with self._failures():
            return self._finish(job_of_event(connect(self), WaitOptions.of(self), event))

    def _poke_until_timeout(self, context: Context, options: WaitOptions, name: JobName) -> Any:
        try:
            return super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException):
            hook = connect(self)
            if not hook.get_job(name).state.is_terminal:
                self.log.warning("Batch job %s has not ended. %s", name, cancel_late(hook, options, name))
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. A transient error does not fail the sensor."""
        name = JobName.parse(self.job_name)
        options = WaitOptions.of(self)
        watch = self._watch or PollState(poll_interval=options.poll_interval, deadline=None, seed=str(name))
        with self._failures():
            self._watch, step, job = look(connect(self), name, watch)
            if job and step.outcome is WaitOutcome.ENDED:
                return PokeReturnValue(is_done=True, xcom_value=self._finish(job))
        return PokeReturnValue(is_done=False)

    def _finish(self, job: BatchJob) -> dict[str, Any]:
        ended_well(job, EndOptions.of(self))
        self.log.info("Batch job %s ended as %s: %s", job.name.job_id, job.state.name, job.stats)
        return summarise(job)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn our errors into those of Airflow's sensors; skip the task if ``soft_fail`` is set."""
        try:
            with fail_without_retry(JobEndedError):
                yield
        except (WaitTimeoutError, AirflowFailException) as error:
            if self.soft_fail:
                raise AirflowSkipException(str(error)) from error
            if isinstance(error, WaitTimeoutError):
                raise AirflowSensorTimeout(str(error)) from error
            raise
