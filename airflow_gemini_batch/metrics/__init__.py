"""Metrics: what the tasks and triggers measure, and how it reaches Airflow's StatsD or OpenTelemetry."""
