"""For the tests of DAGs: an Airflow of their own, and emulators in place of Google Cloud."""

from airflow_gemini_batch.testing.separate_airflow import separate_airflow

__all__ = ["separate_airflow"]
