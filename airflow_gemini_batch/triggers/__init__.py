"""Faces of Airflow: the trigger."""
