"""The quotas of the API: how many calls of each kind a minute, per project and location."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.service import COUNT_TOKENS_A_MINUTE, READS_A_MINUTE, SUBMISSIONS_A_MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable


class Quota(StrEnum):
    """What a call counts against."""

    MANAGEMENT = "management"
    """Get, list and cancel."""
    SUBMISSION = "submission"
    """Create and delete."""
    COUNT_TOKENS = "count_tokens"


OF_VERB = {
    "get": Quota.MANAGEMENT,
    "list": Quota.MANAGEMENT,
    "cancel": Quota.MANAGEMENT,
    "create": Quota.SUBMISSION,
    "delete": Quota.SUBMISSION,
    "predict": Quota.COUNT_TOKENS,
}
# Google's page about quotas describes them, but does not name the metrics.
_METRICS = {
    Quota.MANAGEMENT: "resource_management_requests",
    Quota.SUBMISSION: "job_submission_requests",
    Quota.COUNT_TOKENS: "count_tokens_requests",
}


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """Limits per project and location; the defaults are Google's.

    :param management: calls to get, list or cancel a job in one window
    :param submission: calls to create or delete a job in one window
    :param count_tokens: calls of ``countTokens`` in one window
    :param window: length of a window in seconds; a test may have a shorter minute than Google
    :param slides: a call counts for the length of a window; otherwise the count starts anew with each window,
        the first of which starts with the first call
    :param counts_refused: a call that is refused counts as well, which is not known of the service
    """

    management: int = READS_A_MINUTE
    submission: int = SUBMISSIONS_A_MINUTE
    count_tokens: int = COUNT_TOKENS_A_MINUTE
    window: float = 60.0
    slides: bool = False
    counts_refused: bool = False

    def __post_init__(self) -> None:
        for name in (*Quota, "window"):
            value: object = getattr(self, name)
            if not isinstance(value, (int, float)) or not value > 0:
                raise InvalidParameterError(name, value, "give a number greater than 0")


@dataclass(frozen=True)
class Usage:
    """How many calls were made, of all projects and locations.

    :param management: that were answered
    :param submission: that were answered
    :param count_tokens: that were answered
    :param refused: that got a 429, by the name of the quota
    """

    management: int = 0
    submission: int = 0
    count_tokens: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, int | dict[str, int]]:
        """Return it as JSON types."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Meter:
    """Counts calls and refuses those above a quota; thread-safe.

    :param quotas: none to count only
    :param clock: returns seconds that never go back
    """

    def __init__(self, quotas: Quotas | None, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.start(quotas)

    def start(self, quotas: Quotas | None) -> None:
        """Start anew, with no calls."""
        with self._lock:
            self.quotas = quotas
            self._answered: Counter[Quota] = Counter()
            self._refused: Counter[Quota] = Counter()
            self._recent: dict[tuple[Quota, str], deque[float]] = {}
            self._began: dict[tuple[Quota, str], float] = {}

    @property
    def usage(self) -> Usage:
        """The calls so far."""
        with self._lock:
            refused = {quota.value: number for quota, number in self._refused.items()}
            return Usage(**{quota.value: self._answered[quota] for quota in Quota}, refused=refused)

    def spend(self, verb: str, parent: str) -> None:
        """Count a call.

        :param verb: what it does, as in the name of its permission
        :param parent: ``projects/P/locations/L``
        :raises CallError: 429, it is above the quota
        """
        quota = OF_VERB[verb]
        with self._lock:
            if self.quotas and not self._has_room(self.quotas, quota, parent):
                self._refused[quota] += 1
                limit = getattr(self.quotas, quota.value)
                raise errors.quota_exceeded(_METRICS[quota], limit, parent)
            self._answered[quota] += 1

    def _has_room(self, quotas: Quotas, quota: Quota, parent: str) -> bool:
        recent, now = self._recent.setdefault((quota, parent), deque()), self._clock()
        begins = now - quotas.window
        if not quotas.slides:
            began = self._began.setdefault((quota, parent), now)
            begins = now - (now - began) % quotas.window
        while recent and recent[0] < begins:
            recent.popleft()
        has_room = len(recent) < int(getattr(quotas, quota.value))
        if has_room or quotas.counts_refused:
            recent.append(now)
        return has_room
