"""Rounds of asking failures again: what has come of them, and whether another one is worth it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class End(StrEnum):
    """Why no further round is run; the value is ``ended`` in the manifest."""

    NOTHING_LEFT = "nothing_left"
    NO_PROGRESS = "no_progress"
    MAX_ROUNDS = "max_rounds"
    MAX_COST = "max_cost"


_WORDS = {
    End.NOTHING_LEFT: "Nothing is left that may succeed when it is asked again.",
    End.NO_PROGRESS: "In the last round not one request succeeded, so no further one is paid for.",
    End.MAX_ROUNDS: "These were all rounds; max_rounds allows no more.",
    End.MAX_COST: "Another round may cost more than max_cost_usd leaves; it was not begun.",
}


@dataclass(frozen=True)
class Round:
    """One job that was asked failures again, and has been landed.

    :param asked: requests
    :param succeeded: those of them that now have a good answer
    :param cost_usd: about; ``None`` when the price is not known
    """

    job_name: str
    asked: int
    succeeded: int
    cost_usd: float | None

    def __str__(self) -> str:
        cost = "cost unknown" if self.cost_usd is None else f"about ${self.cost_usd:.4f}"
        return f"{self.succeeded:,} of {self.asked:,} requests succeeded, {cost}"


def ended(rounds: Sequence[Round], left: int, max_rounds: int) -> End | None:
    """Say why there is no further round, or ``None`` when there is one.

    :param left: failures that may succeed when they are asked again
    """
    if not left:
        return End.NOTHING_LEFT
    if rounds and not rounds[-1].succeeded:
        return End.NO_PROGRESS
    return End.MAX_ROUNDS if len(rounds) >= max_rounds else None


def spent(rounds: Sequence[Round]) -> float | None:
    """What the rounds have cost in US dollars; ``None`` when that of one is not known."""
    costs = [each.cost_usd for each in rounds]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def explain(end: End, rounds: Sequence[Round], left: int) -> str:
    """Say in words how it ended."""
    done = sum(each.succeeded for each in rounds)
    return (
        f"{len(rounds)} {'round' if len(rounds) == 1 else 'rounds'}: {done:,} requests that had failed "
        f"succeeded, {left:,} that may be asked again have not. {_WORDS[end]}"
    )
