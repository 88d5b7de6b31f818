"""Runs the pipeline in this process, which reads OpenLineage's settings from its environment."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_gemini_batch.local_stack.stack import stay_on_loopback
from airflow_gemini_batch.testing.separate_airflow import load_dags

if __name__ == "__main__":
    stay_on_loopback()
    dags = load_dags(Path(__file__).with_name("pipeline.py"))
    sys.exit(dags["lineage_pipeline"].test().state != "success")
