"""Faces of Airflow: the hook."""
