"""Applies a fault plan to calls: error statuses, resets, stalls, truncated lists."""

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
    """The response to a call.

    :param status: HTTP status; 0 when a fault ended the call before it took effect
    :param answer: a JSON value, or the text of an HTML page
    :param resets: reset the connection instead of sending a response
    :param trickle: seconds over which the response is sent
    """

    status: int
    answer: Any
    resets: bool = False
    trickle: float = 0.0


@dataclass(frozen=True)
class JobPlan:
    """The part of a fault plan that applies to one job.

    :param number: the job's number from 1 among the jobs created since the plan was set
    :param own: the fault that the job asks for itself, instead of one in the plan
    """

    plan: FaultPlan = NO_FAULTS
    number: int = 0
    own: JobFault | None = None

    @property
    def fault(self) -> JobFault | None:
        """The fault of the job as a whole, if any."""
        return self.own or self.plan.of_job(self.number)

    def of_row(self, row: int) -> tuple[RowFaultKind, ...]:
        """Return the faults of an input row, by its number from 1."""
        return self.plan.of_row(self.number, row)

    @property
    def seed(self) -> str:
        """Seed for the random choices in how a row is changed."""
        return f"{self.plan.seed}/{self.number}"


class FaultBook:
    """A fault plan, and the number of calls and jobs since it was set; thread-safe."""

    def __init__(self, plan: FaultPlan = NO_FAULTS) -> None:
        self._lock = threading.Lock()
        self._plan = plan
        self._counts: Counter[Route] = Counter()
        self._jobs = 0

    @property
    def plan(self) -> FaultPlan:
        """The fault plan; setting it restarts the counting."""
        return self._plan

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        with self._lock:
            self._plan = plan
            self._counts.clear()
            self._jobs = 0

    def next_call(self, route: Route | None) -> tuple[CallFault, ...]:
        """Count a call, and return its faults."""
        if route is None:
            return ()
        with self._lock:
            self._counts[route] += 1
            self._counts[Route.ANY] += 1
            return self._plan.of_call(route, self._counts[route], self._counts[Route.ANY])

    def next_job(self) -> JobPlan:
        """Count a job, and return its part of the plan."""
        with self._lock:
            self._jobs += 1
            return JobPlan(self._plan, self._jobs)


def disturbed(
    faults: Sequence[CallFault],
    route: Route | None,
    answer: Callable[[], Reply],
    pause: Callable[[float], object],
) -> Reply:
    """Answer a call and apply its faults.

    :param answer: executes the call
    :param pause: waits the given seconds
    """
    if reply := _interrupted([fault for fault in faults if not fault.after], route, pause):
        return reply
    reply = answer()
    lost = _interrupted([fault for fault in faults if fault.after], route, pause)
    if lost:
        # A reset keeps the real response, so that the record shows what the call did.
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
            # A 502 comes from Google's front end, which sends an HTML page instead of JSON.
            return Reply(fault.status, errors.BAD_GATEWAY_PAGE if fault.status == 502 else error.body())
    return None
