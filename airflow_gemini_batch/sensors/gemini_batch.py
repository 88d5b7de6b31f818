"""The sensor that waits for a batch job, by default without occupying a worker."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import JobEndedError, WaitTimeoutError
from airflow_gemini_batch.jobs.outcome import summarise
from airflow_gemini_batch.jobs.polling import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    PollState,
)
from airflow_gemini_batch.tasks.links import JOB_LINKS, BatchJobLink, OutputLink
from airflow_gemini_batch.tasks.observed import Observed
from airflow_gemini_batch.tasks.options import ConnectionOptions, EndOptions, WaitOptions
from airflow_gemini_batch.tasks.parameters import check_known, documented, refused_when_parsed, store
from airflow_gemini_batch.tasks.stopping import JobsToCancel, forgets_jobs_at_the_end
from airflow_gemini_batch.tasks.wait import (
    WaitsInTriggerer,
    cancel_late,
    check_job_name_when_parsed,
    connect,
    ended_well,
    fail_without_retry,
    job_of_event,
    look,
    wait_in_triggerer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.batch_job import BatchJob


@documented(WaitOptions, EndOptions, ConnectionOptions, without=["wait_timeout"])
class GeminiBatchJobSensor(Observed, WaitsInTriggerer, BaseSensorOperator):
    """Waits until a Gemini batch job has ended.

    SUCCEEDED and PARTIALLY_SUCCEEDED succeed. FAILED, CANCELLED and EXPIRED fail the task with the service's
    reason, the number of completed rows and the location of their output. In any other state the sensor
    keeps waiting.

    Returns a dict with ``job_name``, ``state``, ``display_name``, ``model``, ``input_uris``,
    ``output_location``, ``completion_stats``, ``error``, ``create_time``, ``start_time``, ``end_time``.

    :param job_name: full resource name of the job, as returned by :class:`GeminiBatchSubmitOperator`
        (templated)
    :param cancel_on_kill: cancel the job when a user marks the sensor as failed or succeeded, or the DAG run
        times out; while it is deferred, this requires Airflow 3.3 or later. Off by default: the job is that
        of another task
    :param timeout: how long to wait, in seconds or as a ``timedelta``; 96 hours by default, since a job may
        queue for 72 and run for 24
    """

    template_fields: Sequence[str] = ("job_name", *ConnectionOptions.templated)
    operator_extra_links = JOB_LINKS
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
        with refused_when_parsed(wait_timeout="timeout"):
            check_known(shared, WaitOptions, EndOptions)
        kwargs.setdefault("poke_interval", poll_interval)
        super().__init__(timeout=timeout, **kwargs)
        store(self, shared, WaitOptions, EndOptions, ConnectionOptions)
        self.job_name = job_name
        check_job_name_when_parsed(job_name)
        self._watch: PollState | None = None
        self._to_cancel = JobsToCancel()

    @forgets_jobs_at_the_end
    def execute(self, context: Context) -> Any:
        """Poll once; defer (or poke) if the job has not ended."""
        with self._failures():
            options, name = WaitOptions.of(self), JobName.parse(self.job_name)
            EndOptions.of(self)  # Checked before the wait.
        BatchJobLink.persist(context, name)
        if not options.deferrable:
            return self._poke_until_timeout(context, options, name)
        watch = self._start(options, name)
        # The trigger logs the states.
        self._watch, _, job = look(partial(connect, self), name, watch, log_state=False)
        if not (job and job.state.is_terminal):
            self.log.info("Batch job %s has not ended. Waiting in the triggerer.", name.job_id)
            wait_in_triggerer(self, options, name)
        with self._failures():
            return self._finish(job, context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume after the trigger has fired: read the job again and finish."""
        with self._failures():
            return self._finish(job_of_event(connect(self), WaitOptions.of(self), event), context)

    def on_kill(self) -> None:
        """Cancel the job if ``cancel_on_kill`` is set and this task will not run again."""
        self._to_cancel.on_kill()

    def _poke_until_timeout(self, context: Context, options: WaitOptions, name: JobName) -> Any:
        self._to_cancel.expect(partial(connect, self, ()), options, context["ti"])
        self._to_cancel.found(name)
        try:
            return super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException):
            state = self._watch.state if self._watch else None
            if not (state and state.is_terminal):
                consequence = cancel_late(partial(connect, self), options, name)
                self.log.warning("Batch job %s has not ended. %s", name.job_id, consequence)
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. A transient error does not fail the sensor."""
        name, options = JobName.parse(self.job_name), WaitOptions.of(self)
        with self._failures():
            while True:
                watch = self._watch or self._start(options, name)
                self._watch, step, job = look(partial(connect, self, ()), name, watch)
                if job and job.state.is_terminal:
                    return PokeReturnValue(is_done=True, xcom_value=self._finish(job, context))
                if not (self.reschedule and self._watch.lasting_errors):
                    return PokeReturnValue(is_done=False)
                # Rescheduled, the sensor is a new object that has counted no errors, so it counts them here.
                time.sleep(step.wait)

    def _start(self, options: WaitOptions, name: JobName) -> PollState:
        return PollState(poll_interval=options.poll_interval, deadline=None, seed=str(name))

    def _finish(self, job: BatchJob, context: Context) -> dict[str, Any]:
        self._saw_end(job)
        OutputLink.persist(context, job)
        ended_well(job, EndOptions.of(self), self.task_id)
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
