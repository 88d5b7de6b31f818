"""The event trigger: a DAG starts when a batch job ends, whoever has created the job. Read-only."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_gemini_batch.batch_job import check_place
from airflow_gemini_batch.exceptions import AirflowVersionError
from airflow_gemini_batch.jobs.ended_jobs import OLDEST, Cursor, JobFilter, event_payload
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL, check_poll_interval, utc_now
from airflow_gemini_batch.jobs.spec import check_location
from airflow_gemini_batch.settings import LOCATION

try:
    from airflow.triggers.base import BaseEventTrigger
except ImportError:  # Airflow 2
    BaseEventTrigger = BaseTrigger  # type: ignore[misc, assignment]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping, Sequence

    from airflow_gemini_batch.triggers.job_looks import Delivery, Place

# Before the state of an asset is read again, after an error of Airflow.
_STORE_WAIT = 10.0


class GeminiBatchJobEventTrigger(BaseEventTrigger):
    """Fires an event when batch jobs have ended, for an ``AssetWatcher``. Needs Airflow 3.

    The jobs may have been created by anybody: this Airflow, another one, the console, a script. Jobs that
    have ended before the trigger looks for the first time fire no event.

    From Airflow 3.3 on, every job is in at least one event, also if the triggerer is killed, and in exactly
    one if it is not. Before 3.3, jobs that end while no triggerer runs are in none.

    The payload has ``jobs``, those that have ended since the last look, in the order of their ends. Each has
    ``job_name``, which identifies it, ``state``, ``display_name``, ``model``, ``labels``,
    ``output_location``, ``completion_stats`` (``successful``, ``failed``, ``incomplete``; ``None`` if the
    service does not report them), ``error``, ``create_time``, ``start_time`` and ``end_time`` (ISO 8601, or
    ``None``).

    All triggers of a triggerer that watch the same project and location share one list of jobs an interval.

    :param location: of the jobs; default: the option ``[gemini_batch] location``
    :param project_id: of the jobs; default: the connection's project, then ``GOOGLE_CLOUD_PROJECT``
    :param labels: labels that a job must have, all of them
    :param display_name_prefix: how the job's display name begins; by default, jobs of this package are named
        ``dag_id.task_id``
    :param model: such as ``gemini-3.5-flash``
    :param states: how a job must have ended, such as ``["SUCCEEDED", "PARTIALLY_SUCCEEDED"]``; default: any
        of SUCCEEDED, PARTIALLY_SUCCEEDED, FAILED, CANCELLED, EXPIRED
    :param poll_interval: time between two lists, in seconds
    :raises AirflowVersionError: this is Airflow 2
    :raises InvalidParameterError: a value cannot work
    """

    def __init__(
        self,
        *,
        location: str | None = None,
        project_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        display_name_prefix: str | None = None,
        model: str | None = None,
        states: Sequence[str] | None = None,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
    ) -> None:
        if BaseEventTrigger is BaseTrigger:
            instead = (
                "in Airflow 2, schedule on the Dataset of the results table, or use GeminiBatchJobSensor."
            )
            raise AirflowVersionError("GeminiBatchJobEventTrigger", "3.0", instead)
        super().__init__()  # type: ignore[no-untyped-call]
        self.location = location or LOCATION.value()
        self.project_id = project_id
        self.filter = JobFilter.of(labels, display_name_prefix, model, states)
        self.poll_interval = poll_interval
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        check_place("project" if project_id is None else project_id, check_location(self.location))
        check_poll_interval(poll_interval)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to recreate this trigger on any triggerer."""
        wanted, chain = self.filter, self.impersonation_chain
        return (
            "airflow_gemini_batch.triggers.job_events.GeminiBatchJobEventTrigger",
            {
                "location": self.location,
                "project_id": self.project_id,
                "labels": dict(wanted.labels) or None,
                "display_name_prefix": wanted.display_name_prefix or None,
                "model": wanted.model or None,
                "states": [state.name for state in wanted.states] or None,
                "poll_interval": self.poll_interval,
                "gcp_conn_id": self.gcp_conn_id,
                "impersonation_chain": chain if chain is None or isinstance(chain, str) else list(chain),
            },
        )

    @property
    def cursor_key(self) -> str:
        """The key of the cursor in the state of the asset; the same for all triggers of the same jobs."""
        jobs = json.dumps([self.project_id, self.location, self.filter.to_dict()])
        return f"gemini_batch_jobs_{hashlib.sha256(jobs.encode()).hexdigest()[:24]}"

    def shared_stream_key(self) -> Hashable | None:
        """Return what the triggers have in common that share lists of jobs; ``None`` before Airflow 3.3."""
        if not hasattr(BaseEventTrigger, "create_shared_stream_producer"):
            return None
        return ("gemini_batch_jobs", self._place(), os.environ.get("GOOGLE_VERTEX_BASE_URL"))

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> Any:
        """Return what lists the jobs and learns when Airflow has stored the events."""
        from airflow_gemini_batch.triggers.job_looks import producer_of

        return producer_of(cls(**kwargs)._place())

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire an event whenever jobs have ended, for ever. Airflow calls it before 3.3 only."""
        from airflow_gemini_batch.triggers.job_looks import JobLooks

        looks = JobLooks(self._place())
        async for event in self._events(looks, looks.deliveries()):
            yield event

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[Delivery]
    ) -> AsyncIterator[TriggerEvent]:
        """Fire an event whenever jobs have ended since the stored cursor, for ever."""
        from airflow_gemini_batch.triggers.job_looks import looks_of

        async for event in self._events(looks_of(self._place()), shared_stream):
            yield event

    async def _events(self, looks: Any, deliveries: AsyncIterator[Delivery]) -> AsyncIterator[TriggerEvent]:
        from airflow_gemini_batch.triggers.job_looks import Viewer

        cursor = await self._read_cursor()
        viewer = Viewer(cursor.since if cursor else utc_now() - OLDEST, self.poll_interval)
        with looks.viewed_by(viewer):
            async for delivery in deliveries:
                look, before = delivery.look, cursor
                if cursor is None:
                    # One that began later may lack jobs that run.
                    if look.since <= viewer.since:
                        cursor = Cursor.first(look)
                        self.log.info("Watching for batch jobs that end from now on")
                else:
                    ended, cursor = cursor.after(look)
                    wanted = [job for job in ended if self.filter.matches(job)]
                    for job in wanted:
                        self.log.info("Batch job %s ended as %s", job.name, job.state.name)
                    # One event for all: of several that come at once, Airflow gives a DAG run only the first,
                    # and the others wait for the next event.
                    if wanted:
                        yield TriggerEvent(event_payload(wanted))  # type: ignore[no-untyped-call]
                if cursor and cursor != before:
                    viewer.since = cursor.since
                    delivery.when_stored.append(partial(self._store_cursor, cursor))

    def _place(self) -> Place:
        from airflow_gemini_batch.triggers.job_looks import Place

        chain = self.impersonation_chain
        chain = chain if chain is None or isinstance(chain, str) else tuple(chain)
        return Place(self.project_id, str(self.location), self.gcp_conn_id, chain)

    def _stores(self) -> list[Any]:
        """The state of each asset that this trigger watches for; Airflow before 3.3 has none."""
        accessors = getattr(self, "asset_state_store", None)
        if accessors is None:
            return []
        # Airflow has no public way to list them, and equal triggers of several assets are one trigger.
        return list(getattr(accessors, "_by_name", {}).values()) or [accessors]

    async def _read_cursor(self) -> Cursor | None:
        """Return the latest cursor of the assets: one may have been watched since before another."""
        has_logged = False
        while True:
            try:
                stored = [Cursor.from_dict(await each.aget(self.cursor_key)) for each in self._stores()]
            except Exception as error:
                if not has_logged:
                    self.log.warning("The state of the asset cannot be read: %s", type(error).__name__)
                has_logged = True
                await asyncio.sleep(_STORE_WAIT)
            else:
                return max(filter(None, stored), key=lambda cursor: cursor.since, default=None)

    async def _store_cursor(self, cursor: Cursor) -> None:
        try:
            for each in self._stores():
                await each.aset(self.cursor_key, cursor.to_dict())
        except Exception as error:
            self.log.warning(
                "The state of the asset cannot be stored: %s. If the triggerer is restarted now, it may fire "
                "events again.",
                type(error).__name__,
            )
