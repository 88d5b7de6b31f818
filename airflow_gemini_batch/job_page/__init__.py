"""The list of batch jobs that Airflow's page and ``gemini-batch jobs`` show."""
