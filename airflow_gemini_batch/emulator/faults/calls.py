"""Does to calls what a fault plan decides: refuses, resets, stalls, cuts lists short."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS, CallFaultKind, Route
from airflow_gemini_batch.emulator.protocol import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_gemini_batch.emulator.faults.plan import CallFault, FaultPlan, JobFault, RowFaultKind

REFUSED_TOKEN = "ya29.refused"  # noqa: S105


@dataclass(frozen=True)
class Reply:
    """What goes back over the wire.

    :param status: 0 when the call was cut off before it took effect
    :param answer: JSON, or text for a page in HTML
    :param resets: the connection is reset instead
    :param trickle: over how many seconds the answer is sent
    """

    status: int
    answer: Any
    resets: bool = False
    trickle: float = 0.0


@dataclass(frozen=True)
class JobPlan:
    """What goes wrong with one job.

    :param number: of the job, among those that were created since the plan was set
    """

    plan: FaultPlan = NO_FAULTS
    number: int = 0

    @property
    def fault(self) -> JobFault | None:
        """What hits the job as a whole."""
        return self.plan.of_job(self.number)

    def of_row(self, row: int) -> tuple[RowFaultKind, ...]:
        """What hits a row, by its number from 1."""
        return self.plan.of_row(self.number, row)

    @property
    def seed(self) -> str:
        """Where chance decides how a row is hit."""
        return f"{self.plan.seed}/{self.number}"


class FaultBook:
    """A plan, and how many calls and jobs there were since it was set; safe to use from many threads."""

    def __init__(self, plan: FaultPlan = NO_FAULTS) -> None:
        self._lock = threading.Lock()
        self._plan = plan
        self._counts: Counter[Route] = Counter()
        self._jobs = 0

    @property
    def plan(self) -> FaultPlan:
        """What goes wrong; counting begins anew when it is set."""
        return self._plan

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        with self._lock:
            self._plan = plan
            self._counts.clear()
            self._jobs = 0

    def next_call(self, route: Route | None) -> tuple[CallFault, ...]:
        """Count a call, and return what hits it."""
        if route is None:
            return ()
        with self._lock:
            self._counts[route] += 1
            self._counts[Route.ANY] += 1
            return self._plan.of_call(route, self._counts[route], self._counts[Route.ANY])

    def next_job(self) -> JobPlan:
        """Count a job, and return what hits it."""
        with self._lock:
            self._jobs += 1
            return JobPlan(self._plan, self._jobs)


def disturbed(
    faults: Sequence[CallFault],
    route: Route | None,
    answer: Callable[[], Reply],
    pause: Callable[[float], object],
) -> Reply:
    """Answer a call as its faults demand.

    :param answer: lets the call take effect
    :param pause: waits the given seconds
    """
    if reply := _interrupted([fault for fault in faults if not fault.after], route, pause):
        return reply
    reply = answer()
    lost = _interrupted([fault for fault in faults if fault.after], route, pause)
    if lost:
        # What was done stays on record; only the answer is another one.
        return replace(reply, resets=True) if lost.resets else lost
    for fault in faults:
        if fault.kind is CallFaultKind.TRICKLE:
            reply = replace(reply, trickle=fault.seconds)
        elif reply.status == 200 and fault.kind is CallFaultKind.TRUNCATE:
            reply = replace(reply, answer={"batchPredictionJobs": _jobs(reply)[: fault.keep]})
        elif reply.status == 200 and fault.kind is CallFaultKind.WRONG_TOKEN:
            reply = replace(reply, answer={**reply.answer, "access_token": REFUSED_TOKEN})
    return reply


def _jobs(reply: Reply) -> list[Any]:
    return list(reply.answer.get("batchPredictionJobs", ()))


def _interrupted(
    faults: Sequence[CallFault], route: Route | None, pause: Callable[[float], object]
) -> Reply | None:
    for fault in faults:
        if fault.kind is CallFaultKind.STALL:
            pause(fault.seconds)
    for fault in faults:
        if fault.kind is CallFaultKind.RESET:
            return Reply(0, None, resets=True)
        if fault.kind is CallFaultKind.STATUS:
            error = errors.of_status(fault.status, at_token_endpoint=route is Route.TOKEN)
            # The front end answers 502 itself, with a page and not in JSON.
            return Reply(fault.status, errors.BAD_GATEWAY_PAGE if fault.status == 502 else error.body())
    return None
