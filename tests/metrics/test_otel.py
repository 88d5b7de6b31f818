"""The same metrics through Airflow's OpenTelemetry."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from airflow_gemini_batch.metrics.measured import of_end, of_landing
from airflow_gemini_batch.metrics.sending import send
from tests.metrics.statsd import logger_module, sending_to
from tests.metrics.test_measured import JOB, MANIFEST, TASK


def points(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name: next(iter(metric.data.data_points)) for metric in metrics}


def test_counters_and_times_have_their_tags() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    logger = logger_module("otel_logger").SafeOtelLogger(provider)
    with sending_to(logger):
        send(of_end(JOB, TASK))
        send(of_landing(JOB, MANIFEST, TASK, None))
    found = points(reader)
    provider.shutdown()
    succeeded = found["airflow.gemini_batch.rows.succeeded"]
    assert succeeded.value == 2
    assert succeeded.attributes == {**TASK, "model": "gemini-3.5-flash", "location": "us-central1"}
    assert found["airflow.gemini_batch.cost_micro_usd"].value == 1234
    run = found["airflow.gemini_batch.jobs.run_duration"]
    # A histogram since Airflow 3.2, before that a gauge.
    assert getattr(run, "sum", getattr(run, "value", None)) == 120_000
