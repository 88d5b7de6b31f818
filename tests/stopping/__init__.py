"""What becomes of a job when its task is stopped, in a real Airflow: ``make stop-test``."""
