"""Fault plans: what goes wrong, and when. Pure: a plan returns the faults of the nth call, row or job.

::

    FaultPlan(
        # The job is created, but the response is lost.
        calls=[CallFault(route=Route.CREATE, kind=CallFaultKind.RESET, nth=[1], after=True)],
        rows=[RowFault(kind=RowFaultKind.DROPPED, probability=0.1)],
        jobs=[JobFault(ends=JobState.EXPIRED, after_rows=2)],
        seed=7,
    )

A fault without ``nth`` and ``probability`` always hits. The same plan and seed hit the same calls, rows and
jobs again.
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

# Codes of jobs that fail: import, permission, bucket, system; see `protocol.errors.of_state`.
FAILED_CODES = (3, 7, 9, 13)
STATUSES = (400, 401, 403, 404, 408, 409, 412, 429, 499, 500, 501, 502, 503, 504)


class Route(StrEnum):
    """The API method of a call; ``any`` counts all calls together."""

    CREATE = "create"
    GET = "get"
    LIST = "list"
    CANCEL = "cancel"
    DELETE = "delete"
    TOKEN = "token"  # noqa: S105
    ANY = "any"


class CallFaultKind(StrEnum):
    """Kinds of faults of calls."""

    STATUS = "status"
    """An HTTP error status instead of the response."""
    RESET = "reset"
    """A connection reset instead of the response."""
    STALL = "stall"
    """A pause of some seconds; then the call continues, even if the caller has disconnected."""
    TRICKLE = "trickle"
    """The response arrives in small pieces, over some seconds."""
    LAG = "lag"
    """A list does not show new jobs yet."""
    TRUNCATE = "truncate"
    """A list loses jobs from its page, and its next page token."""
    WRONG_TOKEN = "wrong_token"  # noqa: S105
    """The token endpoint returns a token that every other route rejects."""


class RowFaultKind(StrEnum):
    """Kinds of faults of output rows; only the first five apply to output in a table."""

    EXHAUSTED = "exhausted"
    """The row fails with 429, and would succeed when resubmitted."""
    REFUSED = "refused"
    """The row fails with 400."""
    DROPPED = "dropped"
    DOUBLED = "doubled"
    SHUFFLED = "shuffled"
    """The rows that are hit are permuted."""
    TRUNCATED = "truncated"
    """The line ends early."""
    CORRUPT = "corrupt"
    """Some bytes of the line are overwritten; it is not JSON."""
    NUMBER_KEYS = "number_keys"
    """Members that look like numbers come back as numbers."""
    NO_KEYS = "no_keys"
    """The members next to ``request`` do not come back."""
    EXTRA_MEMBERS = "extra_members"
    """The line and the response have unknown members."""
    HUGE_NUMBERS = "huge_numbers"
    """The line has numbers that fit neither INT64 nor FLOAT64."""


class OutputFault(StrEnum):
    """What is wrong with a job's output."""

    NONE = "none"
    NO_INFO = "no_info"
    """The output is written, but the job has no ``outputInfo``."""
    EMPTY = "empty"
    """The job names an output directory that is empty."""


def _state_by_name(value: Any) -> JobState:
    try:
        return JobState[str(value).removeprefix("JOB_STATE_")]
    except KeyError:
        raise ValueError("give the name of a job state, such as FAILED") from None


# JSON has the name of a state without the prefix JOB_STATE_.
_NamedState = Annotated[
    JobState, BeforeValidator(_state_by_name), PlainSerializer(lambda state: state.name, when_used="json")
]
_JSON = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class When:
    """Which calls, rows or jobs a fault hits.

    :param nth: their numbers, from 1; empty for all
    :param probability: chance of a hit, 0 to 1; None for always
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
        """Return whether the fault hits this number; ``seed`` makes the random choice repeatable."""
        if self.nth and number not in self.nth:
            return False
        return self.probability is None or random.Random(f"{seed}/{number}").random() < self.probability  # noqa: S311


@dataclass(frozen=True, kw_only=True)
class CallFault(When):
    """A fault of calls.

    :param after: whether the fault comes after the call took effect; for ``status``, ``reset`` and ``stall``
    :param status: HTTP status, for ``status``
    :param seconds: duration of ``stall`` and ``trickle``; for ``lag`` the age at which a job is listed
    :param lists: for ``lag``, the number of lists that omit a job before it is listed
    :param keep: for ``truncate``, the number of jobs that remain in the page
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
            raise InvalidParameterError("route", self.route.value, f"{self.kind.value} applies only to list")
        if self.kind is CallFaultKind.WRONG_TOKEN and self.route is not Route.TOKEN:
            raise InvalidParameterError("route", self.route.value, "wrong_token applies only to token")
        if self.kind is CallFaultKind.STATUS and self.status not in STATUSES:
            raise InvalidParameterError("status", self.status, f"give one of {', '.join(map(str, STATUSES))}")
        for name in ("seconds", "lists", "keep"):
            if getattr(self, name) < 0:
                raise InvalidParameterError(name, getattr(self, name), "give 0 or more")

    def hides(self, age: float, lists: int) -> bool:
        """Return whether ``lag`` hides a job from a list.

        :param age: age of the job in seconds
        :param lists: number of lists that have omitted it so far
        """
        return self.kind is CallFaultKind.LAG and (age < self.seconds or lists < self.lists)


@dataclass(frozen=True, kw_only=True)
class RowFault(When):
    """A fault of output rows; ``nth`` counts the rows of the input."""

    kind: RowFaultKind


@dataclass(frozen=True, kw_only=True)
class JobFault(When):
    """A job passes through other states or ends differently; ``nth`` counts the created jobs.

    :param ends: the final state; None for the usual one
    :param code: code of the error of a job that ends as FAILED: 3, 7, 9 or 13
    :param after_rows: number of rows processed before the job ends; None for all
    :param exports: whether the processed rows are written
    :param counts: whether the job has ``completionStats``
    :param path: the states before the final one; empty for PENDING, RUNNING
    :param shards: number of objects that the output is split into; 0 for a single ``predictions.jsonl``
    :param incremental: whether to also write ``incremental_predictions.jsonl`` with half of the rows
    """

    ends: _NamedState | None = None
    code: int = 13
    after_rows: int | None = None
    exports: bool = True
    counts: bool = True
    path: tuple[_NamedState, ...] = ()
    output: OutputFault = OutputFault.NONE
    shards: int = 0
    incremental: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "path", tuple(self.path))
        if self.ends and not self.ends.is_terminal:
            raise InvalidParameterError("ends", self.ends.name, "give a terminal state")
        if self.code not in FAILED_CODES:
            raise InvalidParameterError("code", self.code, f"give one of {', '.join(map(str, FAILED_CODES))}")
        if ended := [state.name for state in self.path if state.is_terminal]:
            raise InvalidParameterError("path", ended, "give states that are not terminal")
        for name in ("after_rows", "shards"):
            if (getattr(self, name) or 0) < 0:
                raise InvalidParameterError(name, getattr(self, name), "give 0 or more")


@dataclass(frozen=True)
class FaultPlan:
    """A plan of all faults.

    :param seed: changes which calls, rows and jobs faults with a ``probability`` hit
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
        """Return the faults of a call.

        :param number: number of calls of this route so far, including this one
        :param number_of_all: number of calls of all routes so far, including this one
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
        """Return the first fault that hits a job."""
        for index, fault in enumerate(self.jobs):
            if fault.hits(number, f"{self.seed}/job/{index}"):
                return fault
        return None

    def of_row(self, job: int, row: int) -> tuple[RowFaultKind, ...]:
        """Return the faults of a row, given the numbers of the job and the row."""
        return tuple(
            fault.kind
            for index, fault in enumerate(self.rows)
            if fault.hits(row, f"{self.seed}/row/{index}/{job}")
        )


NO_FAULTS = FaultPlan()
