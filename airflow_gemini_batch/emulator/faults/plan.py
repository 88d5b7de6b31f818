"""Fault plans: what goes wrong, and when. Pure: a plan says what hits the nth call, row or job.

::

    FaultPlan(
        calls=[CallFault(Route.CREATE, CallFaultKind.RESET, nth=(1,), after=True)],  # created, answer lost
        rows=[RowFault(RowFaultKind.DROPPED, probability=0.1)],
        jobs=[JobFault(ends=JobState.EXPIRED, after_rows=2)],
        seed=7,
    )

A fault without ``nth`` and ``probability`` hits every time. The same plan and seed hit the same again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence  # noqa: TC003  # pydantic resolves the annotations at run time.
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, PlainSerializer

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.exceptions import InvalidParameterError

STATUSES = (400, 401, 403, 404, 408, 409, 412, 429, 499, 500, 501, 502, 503, 504)


class Route(StrEnum):
    """What a call asks for; ``any`` counts all of them together."""

    CREATE = "create"
    GET = "get"
    LIST = "list"
    CANCEL = "cancel"
    DELETE = "delete"
    TOKEN = "token"  # noqa: S105
    ANY = "any"


class CallFaultKind(StrEnum):
    """What goes wrong with a call."""

    STATUS = "status"
    """An HTTP status instead of the answer."""
    RESET = "reset"
    """The connection is reset instead of the answer."""
    STALL = "stall"
    """Nothing happens for some seconds; then all goes on, whether the caller still listens or not."""
    TRICKLE = "trickle"
    """The answer comes in small pieces, over some seconds."""
    LAG = "lag"
    """A list does not show new jobs yet."""
    TRUNCATE = "truncate"
    """A list loses jobs from its page and the token of the next one."""
    WRONG_TOKEN = "wrong_token"  # noqa: S105
    """The token that is given is refused by every other route."""


class RowFaultKind(StrEnum):
    """What goes wrong with a row of the output; in a table only the first five can."""

    EXHAUSTED = "exhausted"
    """The row fails with 429, and is good when it is asked again."""
    REFUSED = "refused"
    """The row fails with 400."""
    DROPPED = "dropped"
    DOUBLED = "doubled"
    SHUFFLED = "shuffled"
    """The rows that are hit change places."""
    TRUNCATED = "truncated"
    """The line ends in the middle."""
    CORRUPT = "corrupt"
    """A piece of the line is other bytes; it is not JSON."""
    NUMBER_KEYS = "number_keys"
    """Members that look like numbers come back as numbers."""
    NO_KEYS = "no_keys"
    """What stands beside the request does not come back."""
    EXTRA_MEMBERS = "extra_members"
    """There are members that nobody knows, in the line and in the response."""
    HUGE_NUMBERS = "huge_numbers"
    """There are numbers that fit neither INT64 nor FLOAT64."""


class OutputFault(StrEnum):
    """What a job says of its output, and what is there."""

    NONE = "none"
    NO_INFO = "no_info"
    """The output is written, and the job does not say where."""
    EMPTY = "empty"
    """The job names a directory, and nothing is in it."""


def _state_by_name(value: Any) -> JobState:
    try:
        return JobState[str(value).removeprefix("JOB_STATE_")]
    except KeyError:
        raise ValueError("give the name of a job state, such as FAILED") from None


# JSON has the name of a state without the prefix JOB_STATE_.
_NamedState = Annotated[
    JobState, BeforeValidator(_state_by_name), PlainSerializer(lambda state: state.name, when_used="json")
]
_JSON = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class When:
    """Which of the calls, rows or jobs are hit.

    :param nth: their numbers, from 1; empty for all of them
    :param probability: of being hit, 0 to 1; ``None`` for certain
    """

    nth: tuple[int, ...] = ()
    probability: float | None = None
    __pydantic_config__: ClassVar[ConfigDict] = _JSON

    def __post_init__(self) -> None:
        object.__setattr__(self, "nth", tuple(self.nth))
        if any(number < 1 for number in self.nth):
            raise InvalidParameterError("nth", self.nth, "give numbers from 1")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise InvalidParameterError("probability", self.probability, "give a number from 0 to 1")

    def hits(self, number: int, seed: str) -> bool:
        """Whether the one with this number is hit; the seed decides where chance does."""
        if self.nth and number not in self.nth:
            return False
        return self.probability is None or random.Random(f"{seed}/{number}").random() < self.probability  # noqa: S311


@dataclass(frozen=True, kw_only=True)
class CallFault(When):
    """Something goes wrong with a call.

    :param after: whether the call has taken effect by then; for ``status``, ``reset`` and ``stall``
    :param status: for ``status``
    :param seconds: how long ``stall`` and ``trickle`` take, how old a job is before ``lag`` lets it be seen
    :param lists: how many lists must have passed a job over before ``lag`` lets it be seen
    :param keep: how many jobs ``truncate`` leaves in the page
    """

    route: Route
    kind: CallFaultKind
    after: bool = False
    status: int = 503
    seconds: float = 0.0
    lists: int = 0
    keep: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        lists_only = self.kind in (CallFaultKind.LAG, CallFaultKind.TRUNCATE)
        if lists_only and self.route is not Route.LIST:
            raise InvalidParameterError("route", self.route.value, f"{self.kind.value} happens to list only")
        if self.kind is CallFaultKind.WRONG_TOKEN and self.route is not Route.TOKEN:
            raise InvalidParameterError("route", self.route.value, "wrong_token happens to token only")
        if self.kind is CallFaultKind.STATUS and self.status not in STATUSES:
            raise InvalidParameterError("status", self.status, f"give one of {', '.join(map(str, STATUSES))}")
        for name in ("seconds", "lists", "keep"):
            if getattr(self, name) < 0:
                raise InvalidParameterError(name, getattr(self, name), "give 0 or more")

    def hides(self, age: float, lists: int) -> bool:
        """Whether ``lag`` keeps a job out of a list.

        :param age: of the job, in seconds
        :param lists: how many lists have passed it over
        """
        return self.kind is CallFaultKind.LAG and (age < self.seconds or lists < self.lists)


@dataclass(frozen=True, kw_only=True)
class RowFault(When):
    """Something goes wrong with a row of the output; ``nth`` counts the rows of the input."""

    kind: RowFaultKind


@dataclass(frozen=True, kw_only=True)
class JobFault(When):
    """A job takes another way, or ends otherwise; ``nth`` counts the jobs that were created.

    :param ends: the state that it ends in; ``None`` for the one that it would have ended in
    :param after_rows: how many rows are done by then; ``None`` for all
    :param exports: whether the rows that are done are written
    :param path: the states that it goes through; empty for PENDING, RUNNING
    :param shards: into how many objects the output is split; 0 for the usual one
    :param incremental: whether an ``incremental_predictions.jsonl`` with half of the rows lies beside it
    """

    ends: _NamedState | None = None
    after_rows: int | None = None
    exports: bool = True
    path: tuple[_NamedState, ...] = ()
    output: OutputFault = OutputFault.NONE
    shards: int = 0
    incremental: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "path", tuple(self.path))
        if self.ends and not self.ends.is_terminal:
            raise InvalidParameterError("ends", self.ends.name, "give a state in which jobs end")
        if ended := [state.name for state in self.path if state.is_terminal]:
            raise InvalidParameterError("path", ended, "give states in which jobs do not end")
        for name in ("after_rows", "shards"):
            if (getattr(self, name) or 0) < 0:
                raise InvalidParameterError(name, getattr(self, name), "give 0 or more")


@dataclass(frozen=True)
class FaultPlan:
    """All that goes wrong.

    :param seed: another seed hits others, where chance decides
    """

    calls: Sequence[CallFault] = ()
    rows: Sequence[RowFault] = ()
    jobs: Sequence[JobFault] = ()
    seed: int = 0
    __pydantic_config__: ClassVar[ConfigDict] = _JSON

    def __post_init__(self) -> None:
        for name in ("calls", "rows", "jobs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def of_call(self, route: Route, number: int, number_of_all: int) -> tuple[CallFault, ...]:
        """Return what hits a call.

        :param number: how many calls of this route there were, with this one
        :param number_of_all: how many calls of any route there were, with this one
        """
        return tuple(
            fault
            for index, fault in enumerate(self.calls)
            if fault.route in (route, Route.ANY)
            and fault.hits(
                number_of_all if fault.route is Route.ANY else number,
                f"{self.seed}/call/{index}/{route.value}",
            )
        )

    def of_job(self, number: int) -> JobFault | None:
        """Return what hits a job: the first fault that does."""
        for index, fault in enumerate(self.jobs):
            if fault.hits(number, f"{self.seed}/job/{index}"):
                return fault
        return None

    def of_row(self, job: int, row: int) -> tuple[RowFaultKind, ...]:
        """Return what hits a row of a job, both by number."""
        return tuple(
            fault.kind
            for index, fault in enumerate(self.rows)
            if fault.hits(row, f"{self.seed}/row/{index}/{job}")
        )


NO_FAULTS = FaultPlan()
