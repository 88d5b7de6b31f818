"""Counts polls that fail. Apart from the others: a DAG file imports this, and nothing else of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_gemini_batch.batch_job import JobName


def count_poll_error(name: JobName, error: Exception, *, from_triggerer: bool = False) -> None:
    """Count a poll of a job that failed.

    :param from_triggerer: whether a trigger has polled, and not a task
    """
    from airflow_gemini_batch.metrics.measured import of_poll_error
    from airflow_gemini_batch.metrics.sending import send

    send(of_poll_error(name, error), from_triggerer=from_triggerer)
