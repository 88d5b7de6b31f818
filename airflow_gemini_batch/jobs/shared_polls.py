"""Polls of many jobs together: which to read with lists and which one by one, and when.

No time, no requests and no threads here: ``now`` is an argument, in seconds since the epoch.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.jobs.creation import created
from airflow_gemini_batch.jobs.identity import RUN_LABEL
from airflow_gemini_batch.service import PAGE_ROWS, READS_A_MINUTE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_gemini_batch.batch_job import BatchJob

REQUESTS_PER_MINUTE = READS_A_MINUTE // 5
"""What a process spends at most on the polls of a project and location."""
GETS_AT_ONCE = 8
"""How many jobs are read one by one before the next decision."""

# The service does not publish its largest page. Google's APIs shorten one that is too large.
_PAGE_SIZES = (1000, PAGE_ROWS)
_FIELDS = "name,state,createTime,completionStats,labels"
# A poll that is due this soon, as a share of its wait, is made with those that are due now. The waits of jobs
# that were polled together differ by 20 %.
_SOON = 0.2
# Which share of the poll interval is a full wait; the first ones are shorter, and so is one to a deadline.
_FULL = 0.85
_MIN_GAP = 1.0
_ERROR_WAIT = 5.0
# A list that was refused is not tried again for some time, nor one for a job that lists keep omitting.
_DISTRUST = 900.0
_MAX_OMISSIONS = 3
# So few are read one by one.
_FEW = 10
_MAX_FAILED_LISTS = 2
# How long before its first poll a job is taken to have been created, if that is not known.
_ASSUMED_AGE = 600.0
_MINUTE = 60.0


@dataclass(frozen=True)
class ListQuery:
    """A list to read, all its pages.

    :param is_own: only jobs that this package created
    :param is_active: only jobs that have not ended
    :param since: only jobs created since then, in seconds since the epoch; 0 for all
    :param covers: IDs of the waited jobs that it should show
    :param max_pages: more of them are not worth it: reading the jobs one by one takes fewer requests
    :param has_mask: whether to ask only for the fields that a poll needs
    """

    is_own: bool
    is_active: bool
    since: float
    covers: frozenset[str]
    max_pages: int
    has_mask: bool
    page_size: int

    @property
    def parameters(self) -> Mapping[str, str | int]:
        """The query parameters of the first page. The filter has only forms that Google documents."""
        terms = [f"labels.{RUN_LABEL}:*"] if self.is_own else []
        if self.is_active:
            terms += [f'state!="{state.value}"' for state in JobState if state.is_terminal]
        if self.since:
            terms.append(created(">=", datetime.fromtimestamp(int(self.since), UTC)))
        mask = {"readMask": _FIELDS} if self.has_mask else {}
        return {"filter": " AND ".join(terms), "pageSize": self.page_size, **mask}


@dataclass(frozen=True)
class ListSize:
    """How long a list is.

    :param jobs: how many jobs its pages had
    :param page: how many jobs were on its first page, if there were several pages; otherwise 0
    """

    jobs: int
    page: int


@dataclass(frozen=True)
class Gets:
    """Jobs to read one by one.

    :param job_ids: the most urgent first
    """

    job_ids: tuple[str, ...]


@dataclass(frozen=True)
class Pause:
    """Nothing is due.

    :param until: ``None``: until a poll is asked for
    """

    until: float | None


class RequestBudget:
    """Limits the requests in any minute.

    :param limit: requests
    """

    def __init__(self, limit: int = REQUESTS_PER_MINUTE) -> None:
        self._times: deque[float] = deque()
        self._limit = limit

    def wait(self, now: float) -> float:
        """Return the seconds until a request is allowed."""
        while self._times and self._times[0] <= now - _MINUTE:
            self._times.popleft()
        if len(self._times) < self._limit:
            return 0.0
        return self._times[len(self._times) - self._limit] + _MINUTE - now

    def spend(self, now: float) -> None:
        """Count a request."""
        self._times.append(now)


@dataclass(slots=True)
class _Waited:
    """A job that is waited for.

    :param due: when its next poll is due; infinity while none is asked for
    :param wait: how long it waits for that poll
    :param latest: until then the poll may wait for those of other jobs
    :param created: in seconds since the epoch; an assumption until the job is read
    :param omissions: how many lists in a row did not show it, although it was active
    :param not_listed_before: until then lists are not used for it
    """

    poll_interval: float
    created: float
    due: float = math.inf
    wait: float = 0.0
    latest: float = math.inf
    is_created_known: bool = False
    is_own: bool = True
    omissions: int = 0
    not_listed_before: float = 0.0


@dataclass
class SharedPolls:
    """Decides about the polls of one connection, project and location.

    A list is read when it takes fewer requests than reading the jobs one by one. Nothing is concluded from
    the absence of a job in a list: it is looked for in a second list, of ended jobs too, or read.
    """

    _jobs: dict[str, _Waited] = field(default_factory=dict)
    _omitted: dict[str, None] = field(default_factory=dict)
    _to_read: dict[str, None] = field(default_factory=dict)
    _uncovered: dict[str, None] = field(default_factory=dict)
    _gets: deque[float] = field(default_factory=deque)
    _others: dict[bool, tuple[int, float]] = field(default_factory=dict)
    _page: int = PAGE_ROWS
    _form: int = 0
    _no_list_before: float = 0.0
    _failed_lists: int = 0
    _lists_rest_until: float = 0.0
    _errors: int = 0
    _not_before: float = 0.0

    def join(self, job_id: str, poll_interval: float, now: float) -> None:
        """Add a job, or another poll interval of one; the shortest counts."""
        waited = self._jobs.setdefault(job_id, _Waited(poll_interval, now - _ASSUMED_AGE))
        waited.poll_interval = min(waited.poll_interval, poll_interval)

    def leave(self, job_id: str) -> None:
        """Remove a job."""
        for kept in (self._jobs, self._omitted, self._to_read, self._uncovered):
            kept.pop(job_id, None)

    def ask(self, job_id: str, wait: float, now: float) -> None:
        """Ask for a poll of a job.

        :param wait: seconds until it is due; it may come sooner
        """
        waited = self._jobs[job_id]
        if now + wait < waited.due:
            waited.due, waited.wait = now + wait, wait
            is_full = wait >= _FULL * waited.poll_interval
            waited.latest = max(now + waited.poll_interval, waited.due) if is_full else waited.due

    def is_due_soon(self, job_id: str, now: float) -> bool:
        """Whether the poll of a job is due, or nearly."""
        waited = self._jobs.get(job_id)
        return waited is not None and waited.due - now <= _SOON * waited.wait

    def next_step(self, now: float) -> ListQuery | Gets | Pause:
        """Return what to do now."""
        if not self._jobs:
            return Pause(None)
        if now < self._not_before:
            return Pause(self._not_before)
        # After an error, one request shows whether the service is back.
        at_once = 1 if self._errors else GETS_AT_ONCE
        if query := self._second_list(now):
            return query
        # What a list left to be read one by one comes before the next list.
        first = (*self._to_read, *self._uncovered)
        return Gets(first[:at_once]) if first else self._step_of_due(at_once, now)

    def _step_of_due(self, at_once: int, now: float) -> ListQuery | Gets | Pause:
        due = [job_id for job_id, waited in self._jobs.items() if waited.due <= now]
        if not due:
            first = min(waited.due for waited in self._jobs.values())
            return Pause(None if first == math.inf else first)
        if query := self._best_list(due, now):
            latest = min(waited.latest for waited in self._jobs.values() if waited.due < math.inf)
            if latest > now:
                # One list soon, instead of one now for the first poll that is due, and others later.
                return Pause(latest)
            self._uncovered = dict.fromkeys(job_id for job_id in due if job_id not in query.covers)
            return query
        due.sort(key=lambda job_id: self._jobs[job_id].due)
        return Gets(tuple(due[:at_once]))

    def was_read(self, job: BatchJob, now: float, query: ListQuery | None = None) -> None:
        """Note a job that a request has shown.

        :param query: the list; ``None`` if the job was read by its name
        """
        self._errors = 0
        job_id = job.name.job_id
        was_omitted = job_id in self._omitted or job_id in self._to_read
        waited = self._done(job_id, now, is_get=query is None)
        if not waited:
            return
        if was_omitted:
            waited.omissions += 1
        elif query:
            waited.omissions = 0
        waited.not_listed_before = now + _DISTRUST if waited.omissions >= _MAX_OMISSIONS else 0.0
        waited.is_own = RUN_LABEL in job.labels or (query is not None and query.is_own)
        if job.create_time:
            waited.created, waited.is_created_known = job.create_time.timestamp(), True

    def was_refused(self, job_id: str, now: float) -> None:
        """Note a job that cannot be read, while the service responds."""
        self._errors = 0
        self._done(job_id, now, is_get=True)

    def was_told(self, job_id: str) -> None:
        """Withdraw the poll of a job: whoever asked was given an error."""
        self._uncovered.pop(job_id, None)
        if waited := self._jobs.get(job_id):
            waited.due = math.inf

    def was_listed(self, query: ListQuery, shown: Collection[str], size: ListSize, now: float) -> None:
        """Note a list that was read to its end, after :meth:`was_read` for each job that it showed.

        :param shown: IDs of the jobs in it that are waited for
        """
        self._note_size(query, size, len(shown), now)
        for job_id in query.covers.difference(shown):
            waited = self._jobs.get(job_id)
            if not waited:
                continue
            if not query.is_active:
                self._read_singly(job_id)
            elif query.since and not waited.is_created_known:
                # It is older than assumed, so this list could not show it.
                waited.created = 0.0
            else:
                self._omitted[job_id] = None

    def was_too_long(self, query: ListQuery, size: ListSize, now: float) -> None:
        """Note a list that has more pages than ``max_pages``; what it did not show is read one by one."""
        self._note_size(query, size, 0, now)
        if not query.is_active:
            for job_id in tuple(self._omitted):
                self._read_singly(job_id)

    def _note_size(self, query: ListQuery, size: ListSize, shown: int, now: float) -> None:
        self._errors = self._failed_lists = 0
        self._page = size.page or self._page
        if query.is_active:
            self._others[query.is_own] = (max(size.jobs - shown, 0), now + _DISTRUST)
            self._gets.clear()
        self._not_before = now + min(_MIN_GAP, self._shortest_interval() / 10)

    def list_was_refused(self, now: float, *, is_bad_request: bool) -> bool:
        """Note that the service refused a list; return whether lists are not used for some time.

        After a bad request the next list is simpler: without a mask, with a smaller page.
        """
        self._errors = 0
        for job_id in tuple(self._omitted):
            self._read_singly(job_id)
        self._form += 1
        if is_bad_request and self._form < len(_PAGE_SIZES):
            return False
        self._form, self._no_list_before = 0, now + _DISTRUST
        return True

    def _done(self, job_id: str, now: float, *, is_get: bool) -> _Waited | None:
        if is_get:
            self._gets.append(now)
        self._omitted.pop(job_id, None)
        self._to_read.pop(job_id, None)
        self._uncovered.pop(job_id, None)
        if waited := self._jobs.get(job_id):
            waited.due = math.inf
        return waited

    def has_failed(self, now: float, *, is_list: bool = False) -> None:
        """Note that there was no good response; polls pause, longer each time, up to the poll interval."""
        self._errors += 1
        self._not_before = now + min(_ERROR_WAIT * 2 ** min(self._errors - 1, 10), self._shortest_interval())
        self._failed_lists = self._failed_lists + 1 if is_list else 0
        # If jobs can be read one by one, it is only the lists that fail.
        self._lists_rest_until = now + _DISTRUST if self._failed_lists >= _MAX_FAILED_LISTS else 0.0

    def _shortest_interval(self) -> float:
        return min((waited.poll_interval for waited in self._jobs.values()), default=_MINUTE)

    def _may_list(self, now: float) -> bool:
        return now >= max(self._no_list_before, self._lists_rest_until)

    def _second_list(self, now: float) -> ListQuery | None:
        """A list of jobs in any state, for those that a list of active ones omitted, if there are many."""
        if not self._omitted:
            return None
        known = [job_id for job_id in self._omitted if self._jobs[job_id].is_created_known]
        is_own = all(self._jobs[job_id].is_own for job_id in known)
        if not known and len(self._omitted) > _FEW:
            # None has been read yet: they may have been created by somebody else, or may have ended.
            known, is_own = list(self._omitted), False
        since = math.floor(min((self._jobs[job_id].created for job_id in known), default=0.0))
        younger = sum(created >= since for created, _ in self._newest_first(is_own, now))
        if not self._may_list(now) or self._pages(is_own, younger, now) >= len(known):
            known = []
        for job_id in set(self._omitted).difference(known):
            self._read_singly(job_id)
        return self._query(is_own, False, since, frozenset(known), len(known)) if known else None

    def _read_singly(self, job_id: str) -> None:
        self._omitted.pop(job_id, None)
        self._to_read[job_id] = None

    def _best_list(self, due: Sequence[str], now: float) -> ListQuery | None:
        """The list that takes fewest requests, with reading what it omits; ``None`` if that is no list."""
        if not self._may_list(now):
            return None
        soon = {job_id for job_id in self._jobs if self.is_due_soon(job_id, now)}
        fewest, best = len(soon), None
        for is_own in self._scopes_in_use():
            newest_first = self._newest_first(is_own, now)
            covered = 0
            for number, (created_at, job_id) in enumerate(newest_first, 1):
                if job_id in soon:
                    covered += 1
                    requests = self._pages(is_own, number, now) + len(soon) - covered
                    if requests < fewest:
                        fewest, best = requests, (is_own, newest_first, created_at, covered)
            # Polls that are due one after the other: when they have taken as many requests as a list, a list
            # brings them together.
            pages, oldest = self._pages(is_own, len(newest_first), now), newest_first[-1:]
            if not best and oldest and self._take_turns(newest_first, len(due), pages, now):
                best = (is_own, newest_first, oldest[0][0], len(newest_first))
        return self._active(*best) if best else None

    def _scopes_in_use(self) -> tuple[bool, ...]:
        return (True,) if all(waited.is_own for waited in self._jobs.values()) else (True, False)

    def _newest_first(self, is_own: bool, now: float) -> list[tuple[float, str]]:
        """Creation times and IDs of the jobs that a list can show."""
        listable = [
            (waited.created, job_id)
            for job_id, waited in self._jobs.items()
            if waited.not_listed_before <= now and (waited.is_own or not is_own)
        ]
        return sorted(listable, reverse=True)

    def _take_turns(
        self, newest_first: Sequence[tuple[float, str]], due: int, pages: int, now: float
    ) -> bool:
        while self._gets and self._gets[0] <= now - _MINUTE:
            self._gets.popleft()
        return (
            len(newest_first) > pages
            and len(self._gets) + due > pages
            and any(self._jobs[job_id].due <= now for _, job_id in newest_first)
        )

    def _active(
        self, is_own: bool, newest_first: Sequence[tuple[float, str]], since: float, max_pages: int
    ) -> ListQuery:
        since = math.floor(since)
        covers = frozenset(job_id for created, job_id in newest_first if created >= since)
        return self._query(is_own, True, since, covers, max_pages)

    def _query(
        self, is_own: bool, is_active: bool, since: float, covers: frozenset[str], max_pages: int
    ) -> ListQuery:
        return ListQuery(
            is_own,
            is_active,
            since,
            covers,
            max_pages,
            has_mask=self._form == 0,
            page_size=_PAGE_SIZES[self._form],
        )

    def _pages(self, is_own: bool, jobs: int, now: float) -> int:
        others, until = self._others.get(is_own, (0, 0.0))
        return max(1, math.ceil((jobs + (others if now < until else 0)) / self._page))
