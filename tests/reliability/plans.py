"""Random plans from seeds, of faults and of what people do: the same seed gives the same plans."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import (
    CallFault,
    CallFaultKind,
    FaultPlan,
    JobFault,
    OutputFault,
    Route,
    RowFault,
    RowFaultKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

SEED = int(os.environ.get("RELIABILITY_SEED", "1"))
"""A different seed gives different plans. The name of a failing test contains its seed."""


def seeds(variable: str, default: int, each: int) -> list[Any]:
    """Return test parameters ``(seed, number of plans)``; ``variable`` sets the total number of plans."""
    total = int(os.environ.get(variable, default))
    counts = [min(each, total - start) for start in range(0, total, each)]
    return [(SEED * 1_000_000 + index, count) for index, count in enumerate(counts)]


def for_all(plans: SearchStrategy[Any], check: Callable[[Any], None], number: int, count: int) -> None:
    """Check ``count`` plans generated from the seed ``number``; shrink a failing one."""

    def check_one(plan: Any) -> None:
        check(plan)

    quiet = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    print(f"seed {number}, {count} plans")
    seed(number)(quiet(given(plans)(check_one)))()


def _numbers(highest: int, size: int = 3) -> SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, highest), min_size=1, max_size=size, unique=True).map(tuple)


_any_call: dict[str, Any] = {
    "route": st.sampled_from([Route.CREATE, Route.GET, Route.LIST, Route.CANCEL]),
    "nth": _numbers(6),
}
_failures = st.one_of(
    st.builds(
        CallFault,
        kind=st.just(CallFaultKind.STATUS),
        status=st.sampled_from([408, 409, 429, 499, 500, 502, 503, 504]),
        after=st.booleans(),
        **_any_call,
    ),
    st.builds(CallFault, kind=st.just(CallFaultKind.RESET), after=st.booleans(), **_any_call),
    st.builds(
        CallFault,
        kind=st.sampled_from([CallFaultKind.STALL, CallFaultKind.TRICKLE]),
        seconds=st.just(0.02),
        after=st.booleans(),
        **_any_call,
    ),
    # Permanent errors, which must be explained.
    st.builds(
        CallFault,
        kind=st.just(CallFaultKind.STATUS),
        status=st.sampled_from([400, 401, 403, 404]),
        **{**_any_call, "nth": _numbers(9, 1)},
    ),
)
_noise = st.builds(
    CallFault,
    route=st.sampled_from([Route.GET, Route.LIST]),
    kind=st.just(CallFaultKind.STATUS),
    status=st.sampled_from([429, 503]),
    probability=st.floats(0, 0.3),
)
# A list that omits a job for longer than any look-up waits is the same as a list without that job; only an
# idempotency key in the API would help. A retry looks five times.
_lists = st.one_of(
    st.builds(CallFault, route=st.just(Route.LIST), kind=st.just(CallFaultKind.LAG), lists=st.integers(1, 2)),
    st.builds(
        CallFault, route=st.just(Route.LIST), kind=st.just(CallFaultKind.TRUNCATE), nth=_numbers(12, 2)
    ),
)
_tokens = st.one_of(
    st.builds(
        CallFault, route=st.just(Route.TOKEN), kind=st.just(CallFaultKind.WRONG_TOKEN), nth=_numbers(2, 1)
    ),
    st.builds(
        CallFault,
        route=st.just(Route.TOKEN),
        kind=st.just(CallFaultKind.STATUS),
        status=st.sampled_from([400, 403]),
        nth=_numbers(2, 1),
    ),
)
_calls = st.tuples(
    st.lists(_failures, max_size=4),
    st.lists(_noise, max_size=1),
    st.lists(_lists, max_size=2, unique_by=lambda fault: fault.kind),
    st.one_of(st.just([]), st.just([]), st.just([]), st.lists(_tokens, max_size=1)),
).map(lambda found: [fault for faults in found for fault in faults])

# How jobs end, and what the service then says. A job that ends badly and shows neither counts nor output
# cannot be told from one that did nothing, so that pair is not drawn.
_path = st.lists(st.sampled_from([s for s in JobState if not s.is_terminal]), max_size=4).map(tuple)
_bad_ends = st.one_of(
    st.builds(
        JobFault,
        nth=_numbers(3),
        ends=st.sampled_from(
            [JobState.EXPIRED, JobState.CANCELLED, JobState.FAILED, JobState.PARTIALLY_SUCCEEDED]
        ),
        code=st.sampled_from([7, 9, 13]),
        after_rows=st.integers(0, 9),
        path=_path,
        exports=st.just(True),
        counts=st.sampled_from([True, True, False]),
    ),
    st.builds(
        JobFault,
        nth=_numbers(3),
        ends=st.sampled_from([JobState.EXPIRED, JobState.CANCELLED, JobState.FAILED]),
        code=st.sampled_from([7, 9, 13]),
        after_rows=st.integers(0, 9),
        path=_path,
        exports=st.booleans(),
        output=st.sampled_from([OutputFault.NO_INFO, OutputFault.EMPTY]),
    ),
    # Before its first row: in the queue, or at the import.
    st.builds(
        JobFault,
        nth=_numbers(3),
        ends=st.sampled_from([JobState.EXPIRED, JobState.CANCELLED]),
        after_rows=st.just(0),
        path=st.just((JobState.QUEUED,)),
        exports=st.just(False),
        counts=st.booleans(),
    ),
    st.builds(
        JobFault,
        nth=_numbers(3),
        ends=st.just(JobState.FAILED),
        code=st.sampled_from([3, 7, 9, 13]),
        after_rows=st.just(0),
        exports=st.just(False),
        counts=st.booleans(),
    ),
)
_good_ends = st.builds(
    JobFault,
    nth=_numbers(3),
    ends=st.sampled_from([None, JobState.SUCCEEDED]),
    path=_path,
    output=st.sampled_from([OutputFault.NONE, OutputFault.NONE, *OutputFault]),
    counts=st.sampled_from([True, True, False]),
    shards=st.sampled_from([0, 0, 2, 3]),
    incremental=st.booleans(),
)
job_faults = _bad_ends | _good_ends
row_faults = st.builds(RowFault, kind=st.sampled_from(RowFaultKind), nth=_numbers(8))


def fault_plans(*, rows: bool = False) -> SearchStrategy[FaultPlan]:
    """Fault plans for up to three jobs; with ``rows``, their output has faults as well."""
    return st.builds(
        FaultPlan,
        calls=_calls,
        rows=st.lists(row_faults, max_size=4) if rows else st.just([]),
        jobs=st.lists(job_faults, max_size=2) | st.lists(_bad_ends, min_size=1, max_size=2),
        seed=st.integers(0, 2**16),
    )


class Event(StrEnum):
    """What happens before a task is cleared and runs again."""

    NOTHING = "nothing"
    CANCELLED = "a person cancels the job in the console"
    TOUCHED = "the metadata of the input changes"
    MOVED = "the input gets another storage class"
    REWRITTEN = "the input is replaced by one of the same size, which asks for its rows"
    DELETED = "the input is deleted, and put back later"
    REFUSED = "one look at the input is refused"
    TWICE = "two tries run at once"
    NEIGHBOUR = "another installation runs the same task"
    NEW_TOKEN = "the user sets a new force_new token, which asks for all rows again"


@dataclass(frozen=True)
class Story:
    """A task run: with these faults it runs once, and again after each event.

    :param first: what happens during the first run
    :param rows: of the input
    :param waits: whether the task waits for its job
    :param token: ``force_new``, if it is set from the start
    :param remembers: whether Airflow has a ``task_state_store``
    :param looks: how often the person who cancels a job looks at it before; with every look it gets on
    :param pause: number of the look before which the first of two tries pauses
    :param reason: why a look is refused
    """

    faults: FaultPlan
    events: tuple[Event, ...] = ()
    first: Event = Event.NOTHING
    rows: int = 5
    waits: bool = False
    on_incomplete: str = "fail"
    token: str | None = None
    remembers: bool = False
    looks: int = 0
    pause: int = 1
    reason: str = "forbidden"
    pace: int = 1

    def __post_init__(self) -> None:
        # A list that omits the job of another try, right before a create, is like one without that job.
        if Event.TWICE in (self.first, *self.events):
            omits = (CallFaultKind.LAG, CallFaultKind.TRUNCATE)
            calls = [fault for fault in self.faults.calls if fault.kind not in omits]
            object.__setattr__(self, "faults", replace(self.faults, calls=calls))
        # A cancelled job may have got further than its fault, so it would show neither counts nor output.
        if Event.CANCELLED in (self.first, *self.events):
            jobs = [
                fault if _shows_output(fault) else replace(fault, counts=True) for fault in self.faults.jobs
            ]
            object.__setattr__(self, "faults", replace(self.faults, jobs=jobs))


def _shows_output(fault: JobFault) -> bool:
    return fault.exports and fault.output not in (OutputFault.NO_INFO, OutputFault.EMPTY)


def stories() -> SearchStrategy[Story]:
    """Stories of one task run, and of the same task run in another installation."""
    return st.builds(
        Story,
        faults=fault_plans(),
        first=st.sampled_from([Event.NOTHING, Event.CANCELLED, Event.REFUSED, Event.TWICE]),
        events=st.lists(st.sampled_from(Event), max_size=3).map(tuple),
        rows=st.integers(2, 10),
        waits=st.booleans(),
        on_incomplete=st.sampled_from(["fail", "continue"]),
        token=st.sampled_from([None, None, None, "first"]),
        remembers=st.booleans(),
        looks=st.integers(0, 5),
        pause=st.integers(1, 4),
        reason=st.sampled_from(["forbidden", "quotaExceeded"]),
        pace=st.integers(1, 3),
    )
