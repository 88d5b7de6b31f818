"""The cells of the table: what happens to a task while it waits, and where it waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Event(StrEnum):
    """What happens to a task that waits for its job."""

    MARK_FAILED = "a user marks the task as failed"
    MARK_SUCCESS = "a user marks the task as succeeded"
    CLEAR = "a user clears the task"
    DAGRUN_TIMEOUT = "`dagrun_timeout` passes"
    EXECUTION_TIMEOUT = "`execution_timeout` passes, a retry is left"
    LAST_EXECUTION_TIMEOUT = "`execution_timeout` passes, no retry is left"
    CANCEL_ON_TIMEOUT = "the same with `cancel_on_timeout=True`"
    UNTOUCHED = "nothing, with two triggerers"

    @property
    def is_done_by_a_user(self) -> bool:
        """Whether the test does it; Airflow does the others."""
        return self in (Event.MARK_FAILED, Event.MARK_SUCCESS, Event.CLEAR)


class Fate(StrEnum):
    """What becomes of the job."""

    CANCELLED = "cancelled"
    ATTACHED = "keeps running; the next try attaches to it"
    KEPT = "keeps running"
    UNAFFECTED = "the task goes on waiting, and succeeds"
    PAID_AGAIN = "**paid again**"
    UNDECIDED = "**not observed**"


@dataclass(frozen=True)
class Cell:
    """One event at one place of waiting.

    :param expected: by major version of Airflow
    """

    event: Event
    deferrable: bool
    expected: dict[int, Fate] = field(hash=False)

    @property
    def dag_id(self) -> str:
        """The DAG that waits for it."""
        return f"{self.event.name.lower()}_{'triggerer' if self.deferrable else 'worker'}"


def _both(fate: Fate) -> dict[int, Fate]:
    return {2: fate, 3: fate}


CELLS = tuple(
    Cell(event, deferrable, expected)
    for event, worker, triggerer in (
        # Airflow 2 does not tell a trigger whether a user has stopped it, or only its triggerer has.
        (Event.MARK_FAILED, _both(Fate.CANCELLED), {2: Fate.KEPT, 3: Fate.CANCELLED}),
        (Event.MARK_SUCCESS, _both(Fate.CANCELLED), {2: Fate.KEPT, 3: Fate.CANCELLED}),
        (Event.CLEAR, _both(Fate.ATTACHED), _both(Fate.ATTACHED)),
        (Event.DAGRUN_TIMEOUT, _both(Fate.CANCELLED), {2: Fate.KEPT, 3: Fate.CANCELLED}),
        # In Airflow 3, execution_timeout does not apply while a task is deferred.
        (Event.EXECUTION_TIMEOUT, _both(Fate.ATTACHED), {2: Fate.ATTACHED, 3: Fate.UNAFFECTED}),
        (Event.LAST_EXECUTION_TIMEOUT, _both(Fate.KEPT), {2: Fate.KEPT, 3: Fate.UNAFFECTED}),
        (Event.CANCEL_ON_TIMEOUT, _both(Fate.CANCELLED), {2: Fate.KEPT, 3: Fate.UNAFFECTED}),
        (Event.UNTOUCHED, _both(Fate.UNAFFECTED), _both(Fate.UNAFFECTED)),
    )
    for deferrable, expected in ((False, worker), (True, triggerer))
)
