"""Deletes old batch jobs of this Airflow every week. Their output and their results are kept.

A task that is cleared after its job was deleted creates a new job and pays again, so keep jobs for as long as
you may clear old runs.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_gemini_batch.operators.jobs import GeminiBatchDeleteJobOperator, old_jobs

PARAMS = {
    "location": Param(
        os.environ.get("GOOGLE_CLOUD_LOCATION", "global"),
        type="string",
        description="global, us, eu or a region, where the jobs ran",
    ),
    "days": Param(90, type="integer", minimum=0, description="Delete jobs that ended this many days ago"),
}


@dag(
    schedule="@weekly",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
    description="Deletes batch jobs that ended long ago",
    doc_md=__doc__,
    params=PARAMS,
)
def gemini_batch_cleanup():
    @task
    def old(location: str, days: str) -> list[str]:
        return old_jobs(location, days)

    GeminiBatchDeleteJobOperator(
        task_id="delete",
        job_name=old("{{ params.location }}", "{{ params.days }}"),
        min_age_days="{{ params.days }}",
    )


gemini_batch_cleanup()
