"""Which jobs of a project and location have ended since the last look. Pure: all times are the service's.

A look is a list of jobs in any state, read to its end. The list shows new jobs first, late or not at all, and
jobs end while it is read, so nothing is concluded from the absence of a job.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.creation import created
from airflow_gemini_batch.jobs.outcome import summarise
from airflow_gemini_batch.jobs.spec import check_labels
from airflow_gemini_batch.models import ModelName
from airflow_gemini_batch.service import MAX_QUEUED, MAX_RUNNING, PAGE_ROWS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_gemini_batch.batch_job import BatchJob

OLDEST = MAX_QUEUED + MAX_RUNNING + timedelta(hours=4)
"""A job that was created longer ago has ended; the margin is for clocks that differ."""
_LATE = timedelta(hours=1)
"""How long after its creation a list may show a job for the first time."""
_MASK = "name,displayName,state,model,labels,createTime,startTime,endTime,completionStats,outputInfo"
_MASK += ",outputConfig,error"
_PAGE_SIZE = 1000
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Look:
    """A list of jobs in any state, read to its end.

    :param since: it shows the jobs that were created at that time or later
    """

    since: datetime
    jobs: tuple[BatchJob, ...]


@dataclass(frozen=True)
class Cursor:
    """Which jobs are done with: those created before ``since``, and those in ``ended``.

    :param ended: creation times of ended jobs that need no event any more, by their IDs
    :param active: creation times of jobs that have not ended, by their IDs
    """

    since: datetime
    ended: Mapping[str, datetime] = field(default_factory=dict)
    active: Mapping[str, datetime] = field(default_factory=dict)

    @classmethod
    def first(cls, look: Look) -> Self:
        """Start with a look: the jobs that it shows as ended need no event."""
        return cls(look.since).after(look)[1]

    def after(self, look: Look) -> tuple[tuple[BatchJob, ...], Self]:
        """Return the jobs that have ended since, in the order of their ends, and the cursor with them."""
        shown: dict[str, BatchJob] = {}
        created: dict[str, datetime] = {}
        for job in look.jobs:
            # A job that moves to the next page while the list is read is shown twice.
            known, job_id = shown.get(job.name.job_id), job.name.job_id
            if job.create_time and (known is None or not known.state.is_terminal):
                shown[job_id], created[job_id] = job, job.create_time
        mine = [job_id for job_id in shown if created[job_id] >= self.since and job_id not in self.ended]
        new = [job_id for job_id in mine if shown[job_id].state.is_terminal]
        ended = {**self.ended, **{job_id: created[job_id] for job_id in new}}
        active = {**self.active, **{job_id: created[job_id] for job_id in mine}}
        active = {job_id: at for job_id, at in active.items() if job_id not in ended}
        cursor = type(self)(self.since, ended, active)
        if look.since <= self.since:
            cursor = cursor._moved(max(created.values(), default=self.since), shown)
        jobs = sorted((shown[job_id] for job_id in new), key=lambda job: (_end(job), job.name.job_id))
        return tuple(jobs), cursor

    def _moved(self, newest: datetime, shown: Collection[str]) -> Self:
        """Return the cursor with ``since`` as late as the jobs that may still end allow.

        :param newest: creation time of the newest job that is known
        :param shown: IDs of the jobs of the look
        """
        active = {job_id: at for job_id, at in self.active.items() if job_id in shown or at > newest - OLDEST}
        since = max(self.since, min([newest - _LATE, *active.values()]))
        ended = {job_id: at for job_id, at in self.ended.items() if at >= since}
        return type(self)(since, ended, active)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types: times in microseconds since the epoch."""
        return {
            "since": _number(self.since),
            "ended": {job_id: _number(at) for job_id, at in self.ended.items()},
            "active": {job_id: _number(at) for job_id, at in self.active.items()},
        }

    @classmethod
    def from_dict(cls, stored: object) -> Self | None:
        """Parse what :meth:`to_dict` returned; ``None`` if it is anything else."""
        try:
            since, *jobs = (stored[name] for name in ("since", "ended", "active"))  # type: ignore[index]
            ended, active = ({str(name): _time(at) for name, at in each.items()} for each in jobs)
            return cls(_time(since), ended, active)
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
            return None


@dataclass(frozen=True)
class JobFilter:
    """Which jobs somebody wants to hear of. An empty value lets all jobs pass.

    :param labels: all of which a job must have
    :param display_name_prefix: how its display name begins
    :param model: any form of its name; the ID without a version stands for all versions
    :param states: how it ended
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    display_name_prefix: str = ""
    model: str = ""
    states: tuple[JobState, ...] = ()

    @classmethod
    def of(cls, labels: object, display_name_prefix: object, model: object, states: object) -> Self:
        """Parse the values of a user; ``None`` stands for all jobs.

        :raises InvalidParameterError: a value cannot match any job
        """
        wanted = check_labels({} if labels is None else labels)  # type: ignore[arg-type]
        prefix = "" if display_name_prefix is None else display_name_prefix
        if not isinstance(prefix, str):
            raise InvalidParameterError("display_name_prefix", prefix, "give text")
        if model is not None and not (isinstance(model, str) and ModelName.parse(model)):
            raise InvalidParameterError("model", model, "give a model ID such as 'gemini-3.5-flash'")
        return cls(wanted, prefix, model or "", _states(states))

    def matches(self, job: BatchJob) -> bool:
        """Whether a job passes."""
        return (
            all(job.labels.get(name) == value for name, value in self.labels.items())
            and job.display_name.startswith(self.display_name_prefix)
            and (not self.states or job.state in self.states)
            and (not self.model or _is_model(job.model, self.model))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, in an order of its own, to tell one filter from another."""
        return {
            "labels": dict(sorted(self.labels.items())),
            "display_name_prefix": self.display_name_prefix,
            "model": self.model,
            "states": sorted(self.states),
        }


def look_parameters(since: datetime, *, has_mask: bool) -> dict[str, str | int]:
    """Return the query parameters of the first page of a look. The filter is one that Google documents.

    :param has_mask: whether to ask for few fields and long pages; a service that refuses that takes the rest
    """
    more: dict[str, str | int]
    more = {"readMask": _MASK, "pageSize": _PAGE_SIZE} if has_mask else {"pageSize": PAGE_ROWS}
    return {"filter": created(">=", since), **more}


def event_payload(jobs: Sequence[BatchJob]) -> dict[str, Any]:
    """Return what an event tells of jobs that have ended, as JSON types. No job is in two events."""
    return {"jobs": [_facts(job) for job in jobs]}


def _facts(job: BatchJob) -> dict[str, Any]:
    facts = summarise(job)
    del facts["input_uris"]  # Lists of jobs are read without it: a job may have thousands.
    return {**facts, "labels": dict(job.labels)}


def _states(given: object) -> tuple[JobState, ...]:
    ends = sorted(state for state in JobState if state.is_terminal)
    by_name = {name: state for state in ends for name in (state.name, state.value)}
    if given is None:
        return ()
    if not isinstance(given, (list, tuple)) or not given or not {*map(str, given)} <= by_name.keys():
        known = ", ".join(state.name for state in ends)
        raise InvalidParameterError("states", given, f"give a list of states in which jobs end: {known}")
    return tuple(by_name[str(each)] for each in given)


def _is_model(name: str, wanted: str) -> bool:
    one, other = ModelName.parse(name), ModelName.parse(wanted)
    if not one or not other:
        return name == wanted
    is_any_version = not other.version
    if one.is_tuned or other.is_tuned:
        return name == wanted
    return (one.publisher_model.partition("@")[0] if is_any_version else one.publisher_model) == (
        other.publisher_model
    )


def _end(job: BatchJob) -> datetime:
    return job.latest_time or datetime.min.replace(tzinfo=UTC)


def _number(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _time(number: int) -> datetime:
    return _EPOCH + timedelta(microseconds=number)
