"""What is measured when a job is submitted, has ended or is landed, and when a poll fails. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_gemini_batch.metrics.described import (
    ATTACHED,
    COST,
    ENDED,
    POLL_ERRORS,
    QUEUED_DURATION,
    ROWS,
    RUN_DURATION,
    SUBMITTED,
    TOKENS,
    Metric,
    ending,
)
from airflow_gemini_batch.models import ModelName
from airflow_gemini_batch.results.token_kinds import ALL_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.results.summary import Manifest

_MICRO = 1_000_000
# How much the clocks of a worker and of BigQuery may differ.
_CLOCKS = timedelta(seconds=10)


@dataclass(frozen=True)
class Measurement:
    """A value of a metric.

    :param value: a number for a counter, a time for a timer
    :param part: the last part of the name, if it varies
    """

    metric: Metric
    value: int | timedelta
    tags: Mapping[str, str]
    part: str = ""

    @property
    def name(self) -> str:
        """The whole name."""
        return f"{self.metric.name}.{self.part}" if self.part else self.metric.name


def of_submission(
    name: JobName, model: str, task: Mapping[str, str], *, created: bool
) -> Iterator[Measurement]:
    """Measure that a task created a job, or found it.

    :param model: as in the request
    :param task: ``dag_id`` and ``task_id``
    """
    yield Measurement(SUBMITTED if created else ATTACHED, 1, _tags(name, model, task))


def of_end(job: BatchJob, task: Mapping[str, str]) -> Iterator[Measurement]:
    """Measure a job that has ended. A job that never started has no times."""
    tags = _tags(job.name, job.model, task)
    yield Measurement(ENDED, 1, tags, ending(job.state))
    for metric, since, until in (
        (QUEUED_DURATION, job.create_time, job.start_time),
        (RUN_DURATION, job.start_time, job.end_time),
    ):
        if since and until:
            # Two clocks of the service may differ.
            yield Measurement(metric, max(until - since, timedelta()), tags)


def of_landing(
    job: BatchJob, landed: Manifest, task: Mapping[str, str], started: datetime | None
) -> Iterator[Measurement]:
    """Measure the rows of a job that were landed.

    :param started: when the task began. Rows that were landed before are those of an earlier try, which
        measured them
    """
    if started and landed.landed_at < started - _CLOCKS:
        return
    tags = _tags(job.name, job.model, task)
    for status, count in landed.counts.items():
        if count:
            yield Measurement(ROWS, count, tags, status.value)
    for kind in ALL_KINDS:
        if count := getattr(landed.tokens, kind):
            yield Measurement(TOKENS, count, tags, kind)
    if landed.cost_usd:
        yield Measurement(COST, int(landed.cost_usd * _MICRO), tags)


def of_poll_error(name: JobName, error: Exception) -> Iterator[Measurement]:
    """Measure a poll that failed. The class of the error is a tag; its message may say anything."""
    yield Measurement(POLL_ERRORS, 1, {"location": name.location, "error": type(error).__name__})


def _tags(name: JobName, model: str, task: Mapping[str, str]) -> dict[str, str]:
    return {**task, "model": ModelName.id_of(model), "location": name.location}
