"""How fast the states of a job advance. Pure: time and reads are arguments.

A job walks along a path of states, PENDING and RUNNING, and then ends. At a pace of

``immediate``   the first read already shows the end
``reads:3``     each state of the path is shown three times; a get or a list that shows the job is a read
``seconds:2``   each state of the path lasts two seconds
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.exceptions import InvalidParameterError

# Labels take neither colon nor point, so a job says `reads-3` or `milliseconds-500`.
_TEXT = re.compile(r"^(reads|seconds|milliseconds)[:-](\d+(?:\.\d+)?)$")
_PATH = (JobState.PENDING, JobState.RUNNING)


@dataclass(frozen=True)
class Pace:
    """The pace of one state of the path; ``reads`` and ``seconds`` both absent means immediate."""

    reads: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str, parameter: str = "pace") -> Pace:
        """Read ``immediate``, ``reads:3``, ``seconds:0.5`` or ``milliseconds:500``; ``-`` does for ``:``.

        :raises InvalidParameterError: when it is none of these
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
        """Whether what a reader sees depends on the reads alone, not on the clock."""
        return self.seconds is None

    def __str__(self) -> str:
        if self.reads is not None:
            return f"reads:{self.reads}"
        return "immediate" if self.seconds is None else f"seconds:{self.seconds:g}"


IMMEDIATE = Pace()


@dataclass(frozen=True)
class Walk:
    """A job on its path.

    :param started: when it set out, in seconds of a monotonic clock, as every ``now`` below
    :param reads: how often it was shown since
    """

    pace: Pace
    started: float
    path: tuple[JobState, ...] = _PATH
    reads: int = 0

    def progress(self, now: float) -> float:
        """Return how many states lie behind it, with the part of the present one behind the point."""
        if self.pace.reads:
            return self.reads / self.pace.reads
        if self.pace.seconds:
            return (now - self.started) / self.pace.seconds
        return math.inf

    def state(self, now: float) -> JobState | None:
        """Return the state it is in, or ``None`` when the path is behind it."""
        progress = self.progress(now)
        return self.path[int(progress)] if progress < len(self.path) else None

    def share_run(self, now: float) -> float:
        """Return how much of RUNNING lies behind it, 0 to 1."""
        if JobState.RUNNING not in self.path:
            return 0.0
        return min(max(self.progress(now) - self.path.index(JobState.RUNNING), 0.0), 1.0)

    def seconds_until(self, stage: int, now: float) -> float | None:
        """Return the seconds until it reaches that stage of the path; ``None`` if time does not move it."""
        if not self.pace.seconds:
            return None
        return max(self.started + stage * self.pace.seconds - now, 0.0)

    def shown(self) -> Walk:
        """Return the walk after one more read."""
        return replace(self, reads=self.reads + 1)

    def turned(self, path: tuple[JobState, ...], now: float) -> Walk:
        """Return the walk along another path, from now on."""
        return Walk(self.pace, now, path)
