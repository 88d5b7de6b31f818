"""Airflow and Google Cloud on this machine. The provider never imports it."""
