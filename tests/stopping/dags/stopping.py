"""A DAG for each cell: one task that submits a job and waits for it."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.stopping.cells import CELLS, Event

# A busy machine needs a minute until a task has its job, and another until the task of a run starts.
SOON = timedelta(seconds=90)
LATER = timedelta(seconds=150)
TIMEOUTS = (Event.EXECUTION_TIMEOUT, Event.LAST_EXECUTION_TIMEOUT, Event.CANCEL_ON_TIMEOUT)

for cell in CELLS:
    with DAG(
        cell.dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        dagrun_timeout=LATER if cell.event is Event.DAGRUN_TIMEOUT else None,
    ):
        GeminiBatchSubmitOperator(
            task_id="submit",
            model="gemini-3.5-flash",
            input_uri="gs://stopping/requests.jsonl",
            output_uri=f"gs://stopping/{cell.dag_id}",
            location="global",
            display_name=cell.dag_id,
            wait_for_completion=True,
            deferrable=cell.deferrable,
            poll_interval=2,
            cancel_on_timeout=cell.event is Event.CANCEL_ON_TIMEOUT,
            execution_timeout=SOON if cell.event in TIMEOUTS else None,
            # The try after the timeout may time out as well, before the job ends.
            retries=0 if cell.event in (Event.LAST_EXECUTION_TIMEOUT, Event.CANCEL_ON_TIMEOUT) else 5,
            retry_delay=timedelta(seconds=3),
        )
