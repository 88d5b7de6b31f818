"""Hands measurements to Airflow, which sends them to StatsD or OpenTelemetry, or drops them."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.metrics.described import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_gemini_batch.metrics.measured import Measurement

log = logging.getLogger(__name__)

# Since Airflow 3.2 a task and a triggerer each set up a copy of the same module.
_OF_TASKS = ("airflow.sdk.observability.stats", "airflow.stats")
_OF_TRIGGERER = ("airflow.observability.stats", "airflow.stats")


def send(measurements: Iterable[Measurement], *, from_triggerer: bool = False) -> None:
    """Send measurements. A metric that cannot be sent fails no task: its job may have been paid."""
    try:
        stats = _stats(_OF_TRIGGERER if from_triggerer else _OF_TASKS)
        for each in measurements:
            if each.metric.kind is Kind.TIMER:
                stats.timing(each.name, each.value, tags=dict(each.tags))
            else:
                stats.incr(each.name, each.value, tags=dict(each.tags))
    except Exception as error:
        log.warning("Metrics were not sent: %s", type(error).__name__)


def _stats(modules: tuple[str, ...]) -> Any:
    *newer, oldest = modules
    for module in newer:
        try:
            return import_module(module).Stats
        except ImportError:
            continue
    return import_module(oldest).Stats
