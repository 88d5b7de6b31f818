"""Gemini batch inference on Gemini Enterprise Agent Platform (Vertex AI) from Apache Airflow."""

__version__ = "0.1.0"
