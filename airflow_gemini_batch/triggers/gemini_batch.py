"""The trigger: reads a job until it has ended. It only reads; the job is created on the worker."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import GeminiBatchError
from airflow_gemini_batch.jobs.polling import Watch, utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchAsyncHook
    from airflow_gemini_batch.jobs.polling import Step


class GeminiBatchJobTrigger(BaseTrigger):
    """Waits until a batch job has ended, and fires ``{"job_name", "outcome", "state", "message"}`` once.

    Its arguments live in Airflow's database: ids and times, nothing else.

    :param job_name: full resource name
    :param poll_interval: longest wait between two looks, in seconds
    :param deadline: ISO time with offset at which waiting ends; a restart of the triggerer does not move it
    :param cancel_on_kill: cancel the job when a user marks the waiting task or clears it (Airflow 3.3 on)
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
        """The arguments to build this trigger again, on any triggerer."""
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
        """Look, wait, look again; fire one event when the job has ended or waiting is over."""
        name = JobName.parse(self.job_name)
        deadline = datetime.fromisoformat(self.deadline) if self.deadline else None
        watch = Watch(poll_interval=self.poll_interval, deadline=deadline, seed=self.job_name)
        hook = self._hook()
        while True:
            watch, step = await self._look(hook, name, watch)
            if step.message:
                self.log.log(logging.WARNING if step.is_warning else logging.INFO, step.message)
            if step.outcome:
                state = watch.state.value if watch.state else None
                yield TriggerEvent(  # type: ignore[no-untyped-call]
                    {
                        "job_name": self.job_name,
                        "outcome": step.outcome.value,
                        "state": state,
                        "message": step.message,
                    }
                )
                return
            await asyncio.sleep(step.wait)

    async def on_kill(self) -> None:
        """A user marked or cleared the task. Airflow calls this from 3.3 on, and on no restart."""
        if not self.cancel_on_kill:
            self.log.info("The batch job %s goes on and costs money: cancel_on_kill is off", self.job_name)
            return
        await self._hook().cancel_job(JobName.parse(self.job_name))
        self.log.info("Asked for the batch job %s to be cancelled. What is done is charged.", self.job_name)

    async def _look(self, hook: GeminiBatchAsyncHook, name: JobName, watch: Watch) -> tuple[Watch, Step]:
        try:
            return watch.saw(await hook.get_job(name), utc_now())
        except GeminiBatchError as error:
            return watch.failed(error, utc_now())

    def _hook(self) -> GeminiBatchAsyncHook:
        from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchAsyncHook

        return GeminiBatchAsyncHook(
            gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain
        )
