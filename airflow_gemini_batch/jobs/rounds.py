"""Rounds of resubmitting failed requests: their results, and whether to run another one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_gemini_batch.formats import counted, dollars

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from airflow_gemini_batch.batch_job import BatchJob


class End(StrEnum):
    """Why no further round runs; the value is ``ended`` in the manifest."""

    NOTHING_LEFT = "nothing_left"
    NO_PROGRESS = "no_progress"
    MAX_ROUNDS = "max_rounds"
    MAX_COST = "max_cost"
    OTHER_RUN = "other_run"
    SOURCE_UNKNOWN = "source_unknown"


_RAISE = "To ask for them again, raise {} and clear this task: rounds that are done are not paid again."
_EXPLANATIONS = {
    End.NO_PROGRESS: "No request succeeded in the last round, so no further round is run now. To try again, "
    "clear this task: rounds that are done are not paid again.",
    End.MAX_ROUNDS: f"max_rounds is reached. {_RAISE.format('max_rounds')}",
    End.MAX_COST: "Another round was not started, since it may cost more than is left of max_cost_usd. "
    "To ask for them again, change what the reason names, and clear this task: rounds that are done are not "
    "paid again.",
    End.OTHER_RUN: "Other task runs are resubmitting the requests that are left.",
    End.SOURCE_UNKNOWN: "The jobs of the requests that are left were deleted, and the model is not "
    "known: set model and output_uri.",
}


@dataclass(frozen=True)
class Round:
    """One landed job that resubmitted failed requests.

    :param asked: requests in the job
    :param succeeded: how many of them succeeded
    :param cost_usd: estimated; ``None`` if the price is not known
    :param search_queries: which use up the free ones
    """

    job_name: str
    asked: int
    succeeded: int
    cost_usd: float | None
    search_queries: int = 0

    def __str__(self) -> str:
        cost = "cost unknown" if self.cost_usd is None else f"about {dollars(self.cost_usd)}"
        return f"{self.succeeded:,} of {counted(self.asked, 'request')} succeeded, {cost}"


def ended(rounds: Sequence[Round], left: int, max_rounds: int, before: Collection[str] = ()) -> End | None:
    """Return why no further round runs, or ``None`` if one should.

    :param left: failed requests that are retryable
    :param before: names of the jobs of rounds that were done before a person cleared the task, to try again
    """
    if not left:
        return End.NOTHING_LEFT
    if rounds and not rounds[-1].succeeded and rounds[-1].job_name not in before:
        return End.NO_PROGRESS
    return End.MAX_ROUNDS if len(rounds) >= max_rounds else None


def is_abandoned(jobs: Iterable[BatchJob]) -> bool:
    """Whether another task run may resubmit what a round has claimed: its jobs have ended uncharged.

    :param jobs: all jobs of the round; none if it never created one
    """
    return all(job.state.is_terminal and not job.state.is_success and not job.is_charged for job in jobs)


def spent(rounds: Sequence[Round]) -> float | None:
    """Return the cost of the rounds in US dollars; ``None`` if that of any is not known."""
    costs = [each.cost_usd for each in rounds]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def what_is_left(end: End, left: int, reason: str = "") -> str:
    """Say how many requests may yet succeed, why they are not resubmitted now, and what to do.

    :param left: failed requests that are retryable
    :param reason: why another round may cost too much
    """
    return " ".join(filter(None, (*_left(end, left), reason)))


def _left(end: End, left: int) -> tuple[str, str]:
    return f"{counted(left, 'failed request')} may succeed if resubmitted.", _EXPLANATIONS[end]


def explain(end: End, rounds: Sequence[Round], left: int, failed: int, rows: int) -> list[str]:
    """Describe the rounds, and why they ended: lines for the task log.

    :param left: failed requests that are retryable
    :param failed: rows that did not succeed, after the last round
    :param rows: all rows
    """
    lines = []
    if rounds:
        done = sum(each.succeeded for each in rounds)
        lines = [
            f"{counted(len(rounds), 'round')}: {counted(done, 'failed request')} succeeded when resubmitted."
        ]
    if left:
        return [*lines, *_left(end, left)]
    why = "there are no rows."
    if rows:
        why = "all rows succeeded."
    if failed:
        why = f"{failed:,} of {counted(rows, 'row')} did not succeed, and resubmitting them would not help."
    return [*lines, f"Nothing{' is left' if rounds else ''} to retry: {why}"]
