"""Looks at the jobs of a project and location, which all event triggers of an event loop share there."""

from __future__ import annotations

import asyncio
import logging
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import check_place
from airflow_gemini_batch.exceptions import ApiError, GeminiBatchError
from airflow_gemini_batch.jobs.ended_jobs import Look, look_parameters
from airflow_gemini_batch.triggers.shared_poller import async_hook, poller_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Sequence
    from datetime import datetime

log = logging.getLogger(__name__)

_ERROR_WAIT = 5.0
_LONGEST_ERROR_WAIT = 300.0
_BAD_REQUEST = 400

_looks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, JobLooks]] = (
    weakref.WeakKeyDictionary()
)


@dataclass
class Delivery:
    """A look on its way through the triggers.

    :param when_stored: what each trigger does when its events of this look are in Airflow's database
    """

    look: Look
    when_stored: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def stored(self) -> None:
        """Airflow has stored all events of this look."""
        for call in self.when_stored:
            await call()


@dataclass
class Viewer:
    """A trigger that looks.

    :param since: creation time of the oldest job that it needs to see
    """

    since: datetime
    poll_interval: float


@dataclass(frozen=True)
class Place:
    """Where to look, and with which credentials.

    :param project_id: ``None`` for that of the connection
    """

    project_id: str | None
    location: str
    gcp_conn_id: str
    impersonation_chain: str | tuple[str, ...] | None


class JobLooks:
    """Looks while there is a viewer, at what the viewer needs that needs most."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._viewers: list[Viewer] = []
        self._wake = asyncio.Event()
        self._has_mask = True
        self._errors = 0

    @contextmanager
    def viewed_by(self, viewer: Viewer) -> Iterator[None]:
        """Look at once, and on, for one viewer more."""
        self._viewers.append(viewer)
        self._wake.set()
        try:
            yield
        finally:
            self._viewers.remove(viewer)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield one look an interval, for ever. An error is logged, and the next look comes later."""
        while True:
            if not self._viewers:
                self._wake.clear()
                await self._wake.wait()
            wait = min(viewer.poll_interval for viewer in self._viewers)
            self._wake.clear()
            try:
                look = await self._look()
            except Exception as error:
                wait = self._failed(error, wait)
            else:
                self._recovered()
                yield Delivery(look)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def _look(self) -> Look:
        # The filter has whole seconds.
        since = min(viewer.since for viewer in self._viewers).replace(microsecond=0)
        place = self._place
        hook = async_hook(place.gcp_conn_id, place.impersonation_chain)
        project = await hook.resolve_project(place.project_id)
        check_place(project, place.location)
        poller = poller_of(project, place.location, place.gcp_conn_id, place.impersonation_chain)
        try:
            jobs = await poller.list_all(look_parameters(since, has_mask=self._has_mask))
        except ApiError as error:
            if error.code != _BAD_REQUEST or not self._has_mask:
                raise
            self._has_mask = False
            jobs = await poller.list_all(look_parameters(since, has_mask=False))
        return Look(since, tuple(jobs))

    def _failed(self, error: Exception, wait: float) -> float:
        """Log the first error of a streak, and return how many seconds to wait."""
        wait = min(max(wait, _ERROR_WAIT) * 2**self._errors, max(wait, _LONGEST_ERROR_WAIT))
        self._errors = min(self._errors + 1, 16)
        if self._errors == 1:
            reason = str(error) if isinstance(error, GeminiBatchError) else type(error).__name__
            log.warning(
                "The batch jobs of %s in %s cannot be listed, so events of their ends come late: %s",
                self._place.project_id or "the connection's project",
                self._place.location,
                reason,
            )
        return wait

    def _recovered(self) -> None:
        if self._errors:
            self._errors = 0
            log.info("The batch jobs in %s can be listed again.", self._place.location)


def looks_of(place: Place) -> JobLooks:
    """Return the looks that the triggers of this event loop share."""
    shared = _looks.setdefault(asyncio.get_running_loop(), {})
    return shared.get(place) or shared.setdefault(place, JobLooks(place))


def producer_of(place: Place) -> Any:
    """Return what Airflow 3.3 and later take as the source of a shared stream."""
    # Airflow before 3.3 does not have it.
    from airflow.triggers.shared_stream import SharedStreamProducer

    class Producer(SharedStreamProducer):
        """Looks, and is told when all events of a look are in Airflow's database."""

        async def open_stream(self) -> AsyncIterator[tuple[Delivery, Delivery]]:
            async for delivery in looks_of(place).deliveries():
                yield delivery, delivery

        async def advance(self, batch: Sequence[Any]) -> None:
            for item in batch:
                # After a failure a trigger begins again from its last cursor.
                if not item.outcome.failed:
                    await item.broker_payload.stored()

    return Producer()
