"""One poller for all triggers of an event loop that wait in the same project and location.

:mod:`airflow_gemini_batch.jobs.shared_polls` decides what to read; here it is read and handed out.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import time
import weakref
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import ApiError, GeminiBatchError
from airflow_gemini_batch.hooks.threads import connection_key
from airflow_gemini_batch.jobs.shared_polls import (
    REQUESTS_PER_MINUTE,
    Gets,
    ListQuery,
    ListSize,
    Pause,
    RequestBudget,
    SharedPolls,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_gemini_batch.batch_job import BatchJob, JobName, JobPage
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchAsyncHook

log = logging.getLogger(__name__)

_BAD_REQUEST = 400
# Triggers that are woken before other tasks of the event loop have a turn.
_WOKEN_AT_ONCE = 50
# Before the second try of a page that is not the first: the list need not begin again.
_PAGE_WAIT = 1.0

_STARTED = time.time() - time.monotonic()

_pollers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, SharedPoller]] = (
    weakref.WeakKeyDictionary()
)


@contextmanager
def waiting_for(
    name: JobName,
    poll_interval: float,
    gcp_conn_id: str,
    impersonation_chain: str | Sequence[str] | None,
) -> Iterator[Waiter]:
    """Yield a waiter for a job; it shares the poller of its connection, project and location.

    :param poll_interval: longest wait between two polls, in seconds
    """
    poller = poller_of(name.project, name.location, gcp_conn_id, impersonation_chain)
    waiter = Waiter(poller, name)
    poller.add(waiter, poll_interval)
    try:
        yield waiter
    finally:
        poller.remove(waiter)


def poller_of(
    project: str, location: str, gcp_conn_id: str, impersonation_chain: str | Sequence[str] | None
) -> SharedPoller:
    """Return the poller of a connection, project and location that this event loop shares."""
    endpoint = os.environ.get("GOOGLE_VERTEX_BASE_URL")
    key = (*connection_key(gcp_conn_id, impersonation_chain), project, location, endpoint)
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    return pollers.get(key) or pollers.setdefault(
        key, SharedPoller(async_hook(gcp_conn_id, impersonation_chain), project, location)
    )


def async_hook(gcp_conn_id: str, impersonation_chain: str | Sequence[str] | None) -> GeminiBatchAsyncHook:
    """Return a hook. Imported here: a task that defers must not wait for Google's SDKs."""
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchAsyncHook

    return GeminiBatchAsyncHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain)


class Waiter:
    """Reads one job through the shared poller."""

    __slots__ = ("_poller", "answer", "name")

    def __init__(self, poller: SharedPoller, name: JobName) -> None:
        self._poller = poller
        self.name = name
        self.answer: asyncio.Future[BatchJob] | None = None

    async def read(self, wait: float) -> BatchJob:
        """Read the job in ``wait`` seconds, or sooner if a request shows it for another reason.

        :raises GeminiBatchError: the job could not be read
        """
        self.answer = asyncio.get_running_loop().create_future()
        self._poller.ask(self, wait)
        try:
            return await self.answer
        finally:
            self.answer = None


class SharedPoller:
    """Polls the jobs of all waiters; runs as a task while there are any."""

    def __init__(self, hook: GeminiBatchAsyncHook, project: str, location: str) -> None:
        self._hook = hook
        self._project, self._location = project, location
        self._polls = SharedPolls()
        self._budget = RequestBudget()
        self._waiters: dict[str, list[Waiter]] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Event | None = None
        self._wakes_at: float | None = 0.0
        self._has_logged_budget = self._has_logged_refusal = False

    def add(self, waiter: Waiter, poll_interval: float) -> None:
        """Add a waiter."""
        self._waiters.setdefault(waiter.name.job_id, []).append(waiter)
        self._polls.join(waiter.name.job_id, poll_interval, _now())

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter; without waiters, the poller stops."""
        job_id = waiter.name.job_id
        waiters = self._waiters[job_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[job_id]
            self._polls.leave(job_id)
        if not self._waiters and self._task:
            self._task.cancel()
            # Both belong to the event loop, which must not live as long as this poller.
            self._task = self._wake = None

    def ask(self, waiter: Waiter, wait: float) -> None:
        """Ask for a poll; start the poller if it does not run."""
        now = _now()
        self._polls.ask(waiter.name.job_id, wait, now)
        if self._task is None or self._task.done():
            self._wake = asyncio.Event()
            # In a context of its own: it outlives the trigger that starts it, and must not log in its name.
            self._task = asyncio.get_running_loop().create_task(
                self._run(self._wake), name="gemini-batch-poller", context=contextvars.Context()
            )
        elif self._wake and (self._wakes_at is None or now + wait < self._wakes_at):
            self._wake.set()

    async def list_all(self, parameters: Mapping[str, str | int]) -> list[BatchJob]:
        """Read a list of jobs to its end, within the budget of requests that the waiters share.

        :param parameters: of the first page
        :raises GeminiBatchError: a page could not be read
        """
        jobs: list[BatchJob] = []
        query: dict[str, Any] = dict(parameters)
        while True:
            page = await self._page(query, is_first="pageToken" not in query)
            jobs += page.jobs
            if not page.next_token:
                return jobs
            query["pageToken"] = page.next_token

    async def _run(self, wake: asyncio.Event) -> None:
        try:
            while True:
                wake.clear()
                step = self._polls.next_step(_now())
                try:
                    await self._take(step, wake)
                except Exception as error:
                    # Nothing may leave the triggers without an answer.
                    log.exception("The poller of %s in %s failed", self._project, self._location)
                    self._polls.has_failed(_now())
                    await self._tell(tuple(self._waiters), error)
        finally:
            if asyncio.current_task() is self._task:
                for waiter in self._all_waiters(self._waiters):
                    if waiter.answer:
                        waiter.answer.cancel()

    async def _take(self, step: ListQuery | Gets | Pause, wake: asyncio.Event) -> None:
        if isinstance(step, ListQuery):
            await self._list(step)
        elif isinstance(step, Gets):
            await self._get(step.job_ids)
        else:
            self._wakes_at = step.until
            with suppress(TimeoutError):
                async with asyncio.timeout(None if step.until is None else max(step.until - _now(), 0)):
                    await wake.wait()

    async def _get(self, job_ids: Sequence[str]) -> None:
        results = await asyncio.gather(*map(self._get_one, job_ids), return_exceptions=True)
        failed: list[tuple[str, Exception]] = []
        for job_id, result in zip(job_ids, results, strict=True):
            if isinstance(result, Exception):
                failed.append((job_id, result))
            elif isinstance(result, BaseException):
                raise result
            elif result:
                self._polls.was_read(result, _now())
                await self._deliver([result])
        outages = [error for _, error in failed if _is_transient(error)]
        if outages and len(outages) == len(job_ids):
            # No job could be read, so the polls of the others would fail as well.
            self._polls.has_failed(_now())
            await self._tell_due(outages[0])
            return
        for job_id, error in failed:
            self._polls.was_refused(job_id, _now())
            await self._tell([job_id], error)

    async def _get_one(self, job_id: str) -> BatchJob | None:
        await self._pace()
        if job_id not in self._waiters:
            return None
        return await self._hook.get_job(self._waiters[job_id][0].name)

    async def _list(self, query: ListQuery) -> None:
        shown: set[str] = set()
        listed = first_page = pages = 0
        parameters: dict[str, Any] = dict(query.parameters)
        while True:
            try:
                page = await self._page(parameters, is_first=pages == 0)
            except Exception as error:
                await self._list_failed(error)
                return
            pages, listed = pages + 1, listed + len(page.jobs)
            ours = [job for job in page.jobs if job.name.job_id in self._waiters]
            for job in ours:
                self._polls.was_read(job, _now(), query)
            shown.update(job.name.job_id for job in ours)
            await self._deliver(ours)
            if not page.next_token:
                self._polls.was_listed(query, shown, ListSize(listed, first_page), _now())
                return
            first_page = first_page or len(page.jobs)
            if pages >= query.max_pages:
                self._polls.was_too_long(query, ListSize(listed, first_page), _now())
                return
            parameters["pageToken"] = page.next_token

    async def _page(self, parameters: dict[str, Any], *, is_first: bool) -> JobPage:
        await self._pace()
        try:
            return await self._hook.list_page(self._project, self._location, parameters)
        except Exception as error:
            if is_first or not _is_transient(error):
                raise
        await asyncio.sleep(_PAGE_WAIT)
        await self._pace()
        return await self._hook.list_page(self._project, self._location, parameters)

    async def _list_failed(self, error: Exception) -> None:
        if _is_transient(error):
            self._polls.has_failed(_now(), is_list=True)
            await self._tell_due(error)
            return
        is_bad_request = isinstance(error, ApiError) and error.code == _BAD_REQUEST
        is_off = self._polls.list_was_refused(_now(), is_bad_request=is_bad_request)
        if is_off and not self._has_logged_refusal:
            self._has_logged_refusal = True
            log.warning(
                "Batch jobs of %s in %s are read one by one, since they cannot be listed: %s",
                self._project,
                self._location,
                error,
            )

    async def _pace(self) -> None:
        while wait := self._budget.wait(_now()):
            if not self._has_logged_budget:
                self._has_logged_budget = True
                log.warning(
                    "The polls of batch jobs in %s, %s, for %d of which tasks wait, would take more than %d "
                    "requests a minute, so some come later than poll_interval. Set a longer poll_interval.",
                    self._project,
                    self._location,
                    len(self._waiters),
                    REQUESTS_PER_MINUTE,
                )
            await asyncio.sleep(wait)
        self._budget.spend(_now())

    async def _tell_due(self, error: Exception) -> None:
        """Tell an error to all whose polls are due: one request has failed for them all."""
        now = _now()
        await self._tell([job_id for job_id in self._waiters if self._polls.is_due_soon(job_id, now)], error)

    async def _tell(self, job_ids: Iterable[str], error: Exception) -> None:
        told = [job_id for job_id in job_ids if job_id in self._waiters]
        for job_id in told:
            self._polls.was_told(job_id)
        await self._answer([(waiter, error) for waiter in self._all_waiters(told)])

    async def _deliver(self, jobs: Sequence[BatchJob]) -> None:
        await self._answer(
            # A list may name the number of the project where a trigger names its ID.
            [
                (waiter, job if job.name == waiter.name else replace(job, name=waiter.name))
                for job in jobs
                for waiter in self._waiters.get(job.name.job_id, ())
            ]
        )

    async def _answer(self, answers: Sequence[tuple[Waiter, BatchJob | Exception]]) -> None:
        for number, (waiter, result) in enumerate(answers, 1):
            if waiter.answer and not waiter.answer.done():
                if isinstance(result, Exception):
                    waiter.answer.set_exception(result)
                    # Seen, so that asyncio does not log it if the trigger is cancelled before it reads it.
                    waiter.answer.exception()
                else:
                    waiter.answer.set_result(result)
            if number % _WOKEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _all_waiters(self, job_ids: Iterable[str]) -> Iterator[Waiter]:
        for job_id in job_ids:
            yield from self._waiters[job_id]


def _now() -> float:
    """Seconds since the epoch, by a clock that nobody sets."""
    return _STARTED + time.monotonic()


def _is_transient(error: Exception) -> bool:
    return isinstance(error, GeminiBatchError) and error.is_transient
