"""For Airflow, which imports a provider by the name of its distribution to look for example DAGs.

Without this module, Airflow 3.3 logs an error (``airflow.dag_processing.bundles.manager``). The code is in
``airflow_gemini_batch``.
"""
