"""Faces of Airflow: the operators."""
