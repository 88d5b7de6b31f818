"""How fast the states of a job advance. Pure: time and reads are arguments.

A job passes along a path of states, PENDING and RUNNING by default, and then ends. At the pace

``immediate``   the first read already shows the final state
``reads:3``     each state of the path is shown three times; a get or a list that shows the job is a read
``seconds:2``   each state of the path lasts two seconds
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.exceptions import InvalidParameterError

# Labels allow neither colons nor points, so the label of a job is `reads-3` or `milliseconds-500`.
_TEXT = re.compile(r"^(reads|seconds|milliseconds)[:-](\d+(?:\.\d+)?)$")
_PATH = (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True)
class Pace:
    """How long each state of the path lasts, in reads or in seconds; immediate if both are None."""

    reads: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str, parameter: str = "pace") -> Pace:
        """Parse ``immediate``, ``reads:3``, ``seconds:0.5`` or ``milliseconds:500``, with ``:`` or ``-``.

        :raises InvalidParameterError: when the text is something else
        """
        if text == "immediate":
            return IMMEDIATE
        match = _TEXT.match(text)
        if not match or (match[1] == "reads" and "." in match[2]):
            raise InvalidParameterError(
                parameter, text, "give immediate, reads:N, seconds:N or milliseconds:N, such as reads:3"
            )
        if match[1] == "reads":
            return cls(reads=int(match[2]))
        return cls(seconds=float(match[2]) / (1000 if match[1] == "milliseconds" else 1))

    @property
    def is_deterministic(self) -> bool:
        """Whether the state depends only on the reads, not on the clock."""
        return self.seconds is None

    def __str__(self) -> str:
        if self.reads is not None:
            return f"reads:{self.reads}"
        return "immediate" if self.seconds is None else f"seconds:{self.seconds:g}"


IMMEDIATE = Pace()


@dataclass(frozen=True)
class Walk:
    """The position of a job on its path of states.

    :param started: start time in seconds of the monotonic clock, like every ``now`` below
    :param reads: number of reads since then
    """

    pace: Pace
    started: float
    path: tuple[JobState, ...] = _PATH
    reads: int = 0

    def progress(self, now: float) -> float:
        """Return how many states have passed, including the fraction of the current one."""
        if self.pace.reads:
            return self.reads / self.pace.reads
        if self.pace.seconds:
            return (now - self.started) / self.pace.seconds
        return math.inf

    def state(self, now: float) -> JobState | None:
        """Return the current state, or None when the path has ended."""
        progress = self.progress(now)
        return self.path[int(progress)] if progress < len(self.path) else None

    def share_run(self, now: float) -> float:
        """Return the share of RUNNING that has passed, 0 to 1."""
        if JobState.RUNNING not in self.path:
            return 0.0
        return min(max(self.progress(now) - self.path.index(JobState.RUNNING), 0.0), 1.0)

    def seconds_until(self, stage: int, now: float) -> float | None:
        """Return the seconds until that stage of the path; None if the pace does not depend on time."""
        if not self.pace.seconds:
            return None
        return max(self.started + stage * self.pace.seconds - now, 0.0)

    def shown(self) -> Walk:
        """Return the position after one more read."""
        return replace(self, reads=self.reads + 1)

    def turned(self, path: tuple[JobState, ...], now: float) -> Walk:
        """Return the start of another path, from now on."""
        return Walk(self.pace, now, path)
