"""Waiting for the quota of create requests: how long until the next one. Pure; time is an argument."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_gemini_batch.formats import counted, duration

if TYPE_CHECKING:
    from datetime import datetime

DEFAULT_SUBMIT_TIMEOUT = timedelta(minutes=30)

# The quota has room again within a minute. Each request costs a look-up first, so 500 tasks that wait must
# not ask more often: 600 look-ups a minute is the quota of those.
WAIT = 60.0
# If refused requests count as well, tasks that all ask once a minute keep the quota used up for ever. By now
# 500 tasks are through, if they do not.
_STEADY = 10
_LONGEST = 8


@dataclass(frozen=True)
class QuotaStreak:
    """Create requests that were refused one after the other.

    :param began: when the first one was refused, in seconds of a clock that never goes back
    :param patience: how long to try
    :param refusals: how many so far
    """

    began: float
    patience: timedelta
    refusals: int = 0

    def refused(self) -> QuotaStreak:
        """Return the streak with one more refusal."""
        return replace(self, refusals=self.refusals + 1)

    def is_over(self, now: float) -> bool:
        """Whether it has lasted as long as is allowed."""
        return now - self.began >= self.patience.total_seconds()

    def wait(self, now: float) -> float:
        """Return the seconds until the next request: a minute, more or less, and longer after many."""
        longer = min(2.0 ** max(self.refusals - _STEADY, 0), _LONGEST)
        wait = WAIT * longer * random.uniform(0.5, 1.5)  # noqa: S311
        return max(min(wait, self.patience.total_seconds() - (now - self.began)), 0.0)

    def begins(self, error: Exception, now: datetime) -> str:
        """Say until when it may last."""
        until = f"{now + self.patience:%Y-%m-%d %H:%M:%S %Z}"
        return (
            f"The batch job is not created yet: {error} Trying again about once a minute, until {until} "
            "(submit_timeout)."
        )

    def ends(self, now: float) -> str:
        """Say how long it has lasted."""
        lasted = duration(timedelta(seconds=now - self.began))
        return f"The quota has room again, after {lasted} and {counted(self.refusals, 'refused request')}."
