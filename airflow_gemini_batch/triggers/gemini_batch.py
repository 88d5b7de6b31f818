"""The trigger: polls a job until it ends. Read-only; the job is created on the worker."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.jobs.polling import PollState, utc_now
from airflow_gemini_batch.metrics.polls import count_poll_error
from airflow_gemini_batch.triggers.shared_poller import async_hook, waiting_for
from airflow_gemini_batch.triggers.task_state import is_over, task_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow_gemini_batch.jobs.polling import PollStep
    from airflow_gemini_batch.triggers.shared_poller import Waiter


class GeminiBatchJobTrigger(BaseTrigger):
    """Waits until a batch job ends, then fires one event.

    All triggers of a triggerer that wait in the same project and location share their requests.

    The event is ``{"job_name", "outcome", "state", "message", "retry_helps"}``; see ``WaitOutcome``.

    The trigger's arguments are stored in Airflow's database, so they contain only names and times.

    :param job_name: full resource name
    :param poll_interval: longest wait between two polls, in seconds
    :param deadline: when to stop waiting, ISO 8601 with UTC offset; not moved by a restart of the triggerer
    :param cancel_on_kill: cancel the job if a user marks the state of the waiting task; available since
        Airflow 3.3. A task that is cleared attaches to its job again
    """

    def __init__(
        self,
        job_name: str,
        poll_interval: float,
        deadline: str | None = None,
        cancel_on_kill: bool = False,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_name = job_name
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.cancel_on_kill = cancel_on_kill
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to recreate this trigger on any triggerer."""
        return (
            "airflow_gemini_batch.triggers.gemini_batch.GeminiBatchJobTrigger",
            {
                "job_name": self.job_name,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "cancel_on_kill": self.cancel_on_kill,
                "gcp_conn_id": self.gcp_conn_id,
                "impersonation_chain": self.impersonation_chain,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the job ends, the deadline passes or polling fails; then fire the event."""
        name = JobName.parse(self.job_name)
        deadline = datetime.fromisoformat(self.deadline) if self.deadline else None
        polled = PollState(poll_interval=self.poll_interval, deadline=deadline, seed=self.job_name)
        wait = 0.0
        with waiting_for(name, self.poll_interval, self.gcp_conn_id, self.impersonation_chain) as waiter:
            while True:
                polled, step = await self._poll(waiter, wait, polled)
                if step.message:
                    self.log.log(logging.WARNING if step.is_warning else logging.INFO, step.message)
                if step.outcome:
                    break
                wait = step.wait
        yield TriggerEvent(  # type: ignore[no-untyped-call]
            {
                "job_name": self.job_name,
                "outcome": step.outcome.value,
                "state": polled.state.value if polled.state else None,
                "message": step.message,
                "retry_helps": step.retry_helps,
            }
        )

    async def on_kill(self) -> None:
        """Called since Airflow 3.3 if a user clears the task or marks its state, not on restarts."""
        # Airflow cancels the trigger again every second until it has ended, this method included.
        self._stopping = asyncio.ensure_future(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if not self.cancel_on_kill:
            reason = "cancel_on_kill is False"
        elif not is_over(state := await sync_to_async(task_state)(self.task_instance)):
            reason = f"its task ({state or 'cleared'}) runs again"
        else:
            hook = async_hook(self.gcp_conn_id, self.impersonation_chain)
            is_cancelled = await hook.cancel_job(JobName.parse(self.job_name))
            self.log.warning(
                "Requested cancellation: the task was marked as %s and cancel_on_kill is set. Completed rows "
                "are charged. Batch job: %s"
                if is_cancelled
                else "The batch job had ended when its task was marked as %s, so it was not cancelled. "
                "Completed rows are charged; clear the task to use them. Batch job: %s",
                state,
                self.job_name,
            )
            return
        job_id = JobName.parse(self.job_name).job_id
        self.log.info("Batch job %s keeps running and costs money: %s", job_id, reason)

    async def _poll(self, waiter: Waiter, wait: float, polled: PollState) -> tuple[PollState, PollStep]:
        try:
            return polled.after_read(await waiter.read(wait), utc_now())
        except Exception as error:
            count_poll_error(waiter.name, error, from_triggerer=True)
            return polled.after_error(error, utc_now())
