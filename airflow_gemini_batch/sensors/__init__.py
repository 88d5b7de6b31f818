"""Faces of Airflow: the sensor."""
