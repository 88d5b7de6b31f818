"""How the local stack reports progress: it calls a function with a :class:`Step` and prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """The present state of one step.

    :param state: waiting, running, done or failed
    :param note: what the step does or returned
    :param seconds: how long the step took, where it was measured better than by the caller's clock
    """

    name: str
    state: str = "waiting"
    note: str = ""
    seconds: float | None = None


OnStep = Callable[[Step], None]
