"""Airflow and emulators of Google Cloud on this machine. Only the command line imports this package."""
