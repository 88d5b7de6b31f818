"""Run Gemini batch jobs on Vertex AI from Apache Airflow."""

__version__ = "0.1.0"
