"""Every metric: its name, kind, unit, tags and meaning. Pure; docs/metrics.md has the same table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.token_kinds import ALL_KINDS

PREFIX = "gemini_batch"

_TASK_TAGS = ("dag_id", "task_id")
_JOB_TAGS = (*_TASK_TAGS, "model", "location")


class Kind(StrEnum):
    """How a value is added up."""

    COUNTER = "counter"
    TIMER = "timer"


@dataclass(frozen=True)
class Metric:
    """One metric, or one for each of several values.

    :param name: without the prefix that Airflow adds, such as ``airflow.``
    :param tags: which plain StatsD drops, so nothing that a chart needs is only there
    :param placeholder: stands for the last part of the name in the docs; empty if there is none
    :param values: that the last part has
    """

    name: str
    kind: Kind
    unit: str
    tags: tuple[str, ...]
    meaning: str
    placeholder: str = ""
    values: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """The name as the docs show it."""
        return f"{self.name}.{self.placeholder}" if self.placeholder else self.name


def ending(state: JobState) -> str:
    """Return a state as the last part of a name, such as ``partially_succeeded``."""
    return state.value.removeprefix("JOB_STATE_").lower()


SUBMITTED = Metric(
    f"{PREFIX}.jobs.submitted", Kind.COUNTER, "jobs", _JOB_TAGS, "Batch jobs that a task created"
)
ATTACHED = Metric(
    f"{PREFIX}.jobs.attached",
    Kind.COUNTER,
    "jobs",
    _JOB_TAGS,
    "Batch jobs that a task found instead of creating one, at no cost",
)
ENDED = Metric(
    f"{PREFIX}.jobs.ended",
    Kind.COUNTER,
    "jobs",
    _JOB_TAGS,
    "Batch jobs that a task waited for and saw end",
    "STATE",
    tuple(ending(state) for state in JobState if state.is_terminal),
)
QUEUED_DURATION = Metric(
    f"{PREFIX}.jobs.queued_duration",
    Kind.TIMER,
    "milliseconds",
    _JOB_TAGS,
    "Time from the creation of a job to its start, when a task sees it end",
)
RUN_DURATION = Metric(
    f"{PREFIX}.jobs.run_duration",
    Kind.TIMER,
    "milliseconds",
    _JOB_TAGS,
    "Time from the start of a job to its end, when a task sees it end",
)
ROWS = Metric(
    f"{PREFIX}.rows",
    Kind.COUNTER,
    "rows",
    _JOB_TAGS,
    "Rows that a task landed, by their status",
    "STATUS",
    tuple(status.value for status in RowStatus),
)
TOKENS = Metric(
    f"{PREFIX}.tokens",
    Kind.COUNTER,
    "tokens",
    _JOB_TAGS,
    "Tokens of the rows that a task landed; `prompt` includes `cached`, and `total` includes all",
    "KIND",
    ALL_KINDS,
)
COST = Metric(
    f"{PREFIX}.cost_micro_usd",
    Kind.COUNTER,
    "millionths of a US dollar",
    _JOB_TAGS,
    "Cost of the rows that a task landed, if their price is known",
)
POLL_ERRORS = Metric(
    f"{PREFIX}.poll_errors",
    Kind.COUNTER,
    "polls",
    ("location", "error"),
    "Polls of a job that failed, in the triggerer or on a worker",
)

METRICS = (
    *(SUBMITTED, ATTACHED, ENDED, QUEUED_DURATION, RUN_DURATION),
    *(ROWS, TOKENS, COST, POLL_ERRORS),
)
"""All of them, in the order of a job's life."""
