"""The sensor: waits for a batch job, by default without holding a worker."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import (
    InvalidParameterError,
    JobEndedError,
    WaitTimeoutError,
)
from airflow_gemini_batch.jobs.outcome import summarise
from airflow_gemini_batch.jobs.polling import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    PollState,
    WaitOutcome,
    utc_now,
)
from airflow_gemini_batch.tasks.links import BatchJobLink
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

    from airflow.providers.common.compat.sdk import Context


class GeminiBatchJobSensor(BaseSensorOperator):
    """Waits until a Gemini batch job has ended.

    SUCCEEDED and PARTIALLY_SUCCEEDED go on. FAILED, CANCELLED and EXPIRED fail the task, with the service's
    reason, the rows that were completed and the place of their output. Every other state is waited through.

    Returns a small dict: ``job_name``, ``state``, ``model``, ``completion_stats``, ``output_location``,
    ``input_uris``, ``error``, ``create_time``, ``start_time``, ``end_time``.

    :param job_name: what :class:`GeminiBatchSubmitOperator` returned (templated)
    :param on_incomplete: when the job ended FAILED, CANCELLED or EXPIRED but has written output: ``fail``, or
        ``continue`` so that the rows that were paid for are landed
    :param cancel_on_kill: cancel the job when a user marks this task, or clears it, while it waits in the
        triggerer (Airflow 3.3 on); off, since clearing a sensor means to wait again
    :param cancel_on_timeout: cancel the job when ``timeout`` has passed
    :param deferrable: wait in the triggerer, not on a worker
    :param poll_interval: longest wait between two looks, in seconds; the first looks come sooner
    :param timeout: how long to wait in all, in seconds or as a timedelta; 96 hours by default, since a job
        may queue for 72 and run for 24
    :param gcp_conn_id: Google Cloud connection (templated)
    :param impersonation_chain: service account to impersonate, or the chain to it (templated)
    """

    template_fields: Sequence[str] = ("job_name", "gcp_conn_id", "impersonation_chain")
    operator_extra_links = (BatchJobLink(),)
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        job_name: str,
        on_incomplete: Literal["fail", "continue"] = "fail",
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        deferrable: bool = True,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        timeout: timedelta | float = DEFAULT_TIMEOUT,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("poke_interval", poll_interval)
        super().__init__(timeout=timeout, **kwargs)
        self.job_name = job_name
        self.on_incomplete = on_incomplete
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self._watch: PollState | None = None

    def execute(self, context: Context) -> Any:
        """Look once; if the job has not ended, defer (or poke)."""
        with self._failures():
            name = self._checked_name()
        BatchJobLink.persist(context, name)
        if not self.deferrable:
            return self._poke_until_timeout(context, name)
        with self._failures():
            job = connect(self).get_job(name)
            if job.state.is_terminal:
                return self._finish(job)
        return self._defer(job)

    def _defer(self, job: BatchJob) -> NoReturn:
        self.log.info("Batch job %s is %s. Waiting in the triggerer.", job.name, job.state.name)
        deadline = utc_now() + timedelta(seconds=self.timeout)
        self.defer(trigger=trigger_for(self, job.name, deadline), method_name="execute_complete")
        raise AssertionError("defer() does not return")

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the trigger's event, read the job once more and finish."""
        with self._failures():
            return self._finish(job_of_event(self, connect(self), event))

    def _poke_until_timeout(self, context: Context, name: JobName) -> Any:
        try:
            return super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException):
            hook = connect(self)
            if not hook.get_job(name).state.is_terminal:
                self.log.warning("Batch job %s is late. %s", name, cancel_late(self, hook, name))
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once. A look that fails for a passing reason is no failure of the sensor."""
        name = self._checked_name()
        watch = self._watch or PollState(poll_interval=self.poll_interval, deadline=None, seed=str(name))
        with self._failures():
            self._watch, step, job = look(self, connect(self), name, watch)
            if job and step.outcome is WaitOutcome.ENDED:
                return PokeReturnValue(is_done=True, xcom_value=self._finish(job))
        return PokeReturnValue(is_done=False)

    def _finish(self, job: BatchJob) -> dict[str, Any]:
        ended_well(job, accept_incomplete=self.on_incomplete == "continue")
        self.log.info("Batch job %s ended %s: %s", job.name.job_id, job.state.name, job.stats)
        return summarise(job)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn our errors into the ones that Airflow's sensors end with; ``soft_fail`` skips."""
        try:
            with fail_without_retry(JobEndedError):
                yield
        except (WaitTimeoutError, AirflowFailException) as error:
            if self.soft_fail:
                raise AirflowSkipException(str(error)) from error
            if isinstance(error, WaitTimeoutError):
                raise AirflowSensorTimeout(str(error)) from error
            raise

    def _checked_name(self) -> JobName:
        if self.on_incomplete not in ("fail", "continue"):
            raise InvalidParameterError("on_incomplete", self.on_incomplete, "give 'fail' or 'continue'")
        if not self.poll_interval > 0:
            raise InvalidParameterError("poll_interval", self.poll_interval, "give seconds, more than 0")
        return JobName.parse(self.job_name)
