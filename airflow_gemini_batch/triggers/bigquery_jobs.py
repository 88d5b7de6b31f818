"""The trigger that waits while BigQuery lands results. Read-only; the jobs are started on the worker."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_gemini_batch.exceptions import GeminiBatchError
from airflow_gemini_batch.jobs.polling import PollState, WaitOutcome, utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_POLL_INTERVAL = 10.0


class BigQueryJobsTrigger(BaseTrigger):
    """Waits until BigQuery jobs are done, whatever their end, then fires one event.

    The event is ``{"outcome", "message", "job_ids", "resume"}``; see ``WaitOutcome``. After ``error`` the
    jobs could not be read from here, and may be running.

    The trigger's arguments are stored in Airflow's database, so they contain only names, IDs and times.

    :param project: of the jobs
    :param location: of the jobs
    :param job_ids: of the jobs
    :param deadline: when to stop waiting, ISO 8601 with UTC offset; not moved by a restart of the triggerer
    :param resume: what the task needs when it resumes. It is in the event, because ``dag.test()`` passes on
        nothing else
    """

    def __init__(
        self,
        project: str,
        location: str | None,
        job_ids: Sequence[str],
        deadline: str,
        resume: dict[str, Any],
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.project = project
        self.location = location
        self.job_ids = list(job_ids)
        self.deadline = deadline
        self.resume = resume
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to recreate this trigger on any triggerer."""
        return (
            "airflow_gemini_batch.triggers.bigquery_jobs.BigQueryJobsTrigger",
            {
                "project": self.project,
                "location": self.location,
                "job_ids": self.job_ids,
                "deadline": self.deadline,
                "resume": self.resume,
                "gcp_conn_id": self.gcp_conn_id,
                "impersonation_chain": self.impersonation_chain,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the jobs are done, the deadline passes or polling fails; then fire the event."""
        deadline = datetime.fromisoformat(self.deadline)
        polled = PollState(_POLL_INTERVAL, deadline, seed=self.job_ids[0])
        left, failure = self.job_ids, ""
        while True:
            try:
                left = await self._running(left)
                polled, step = polled.after_look(utc_now(), is_done=not left)
            except Exception as error:
                polled, step = polled.after_error(error, utc_now())
                failure = str(error) if isinstance(error, GeminiBatchError) else type(error).__name__
            # What it says of an error that ends the wait is about batch jobs; the task says the rest.
            if step.message and step.outcome is not WaitOutcome.ERROR:
                self.log.log(logging.WARNING if step.is_warning else logging.INFO, step.message)
            if step.outcome:
                yield TriggerEvent(  # type: ignore[no-untyped-call]
                    {
                        "outcome": step.outcome.value,
                        "message": failure if step.outcome is WaitOutcome.ERROR else "",
                        "job_ids": self.job_ids,
                        "resume": self.resume,
                    }
                )
                return
            await asyncio.sleep(step.wait)

    async def _running(self, job_ids: Sequence[str]) -> list[str]:
        from airflow_gemini_batch.hooks.bigquery_jobs import running_jobs

        return await running_jobs(
            self.project,
            self.location,
            job_ids,
            gcp_conn_id=self.gcp_conn_id,
            impersonation_chain=self.impersonation_chain,
        )
