"""Random fault plans from seeds: the same seed gives the same plans."""

from __future__ import annotations

import os
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

_jobs = st.builds(
    JobFault,
    nth=_numbers(3),
    ends=st.sampled_from([None, None, *(state for state in JobState if state.is_terminal)]),
    after_rows=st.sampled_from([None, 0, 1, 2, 5]),
    exports=st.sampled_from([True, True, False]),
    path=st.lists(st.sampled_from([s for s in JobState if not s.is_terminal]), max_size=4).map(tuple),
    output=st.sampled_from([OutputFault.NONE, OutputFault.NONE, *OutputFault]),
    shards=st.sampled_from([0, 0, 2, 3]),
    incremental=st.booleans(),
)
_rows = st.builds(RowFault, kind=st.sampled_from(RowFaultKind), nth=_numbers(8))


def fault_plans(*, rows: bool = False) -> SearchStrategy[FaultPlan]:
    """Fault plans for up to three jobs; with ``rows``, their output has faults as well."""
    return st.builds(
        FaultPlan,
        calls=_calls,
        rows=st.lists(_rows, max_size=4) if rows else st.just([]),
        jobs=st.lists(_jobs, max_size=2),
        seed=st.integers(0, 2**16),
    )
