"""Ask a person before a job is paid for: "This will cost $40 to $55: go on?" Needs Airflow 3.1.

The task `approve` waits under *Required Actions* in the UI, and occupies no worker. If it is rejected, or
nobody answers within a day, nothing is submitted.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, AirflowOptionalProviderFeatureException, Param, task

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowOptionalProviderFeatureException):
    ApprovalOperator = None  # Before Airflow 3.1, this file has no DAG.

PARAMS = {
    "model": Param("gemini-3.5-flash", type="string", description="Model that answers"),
    "location": Param(
        os.environ.get("GOOGLE_CLOUD_LOCATION", "global"),
        type="string",
        description="global, us, eu or a region, where the model is offered",
    ),
    "bucket": Param(
        os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket"), type="string", description="Bucket of the job"
    ),
    "dataset": Param(
        os.environ.get("GEMINI_BATCH_DATASET", "my_dataset"),
        type="string",
        description="Dataset of the results",
    ),
}
ESTIMATE = "ti.xcom_pull(task_ids='estimate')"
INPUT = "gs://{{ params.bucket }}/requests.jsonl"


@task(task_id="estimate")
def estimate_cost(uri: str, model: str, location: str) -> dict[str, str | int]:
    """Estimate the cost from a sample of the file, which costs nothing."""
    from airflow_gemini_batch.cost.estimate import estimate
    from airflow_gemini_batch.cost.prices import prices_of
    from airflow_gemini_batch.cost.sample import sample_objects
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

    hook = GeminiBatchHook()
    sample = sample_objects([uri], hook.storage_client(hook.resolve_project(None)))
    # An upper bound for each answer, since these requests have no maxOutputTokens.
    found = estimate(sample, prices_of(model, location, datetime.now(UTC), None), output_tokens=1000)
    return {
        "requests": found.rows,
        "cost": str(found.cost_usd or "an amount that is unknown"),
        "why": "\n".join(f"- {reason}" for reason in found.reasons),
    }


if ApprovalOperator:
    with DAG(
        "gemini_batch_approval",
        schedule=None,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        tags=["gemini-batch"],
        description="Asks a person before a job is paid for",
        doc_md=__doc__,
        params=PARAMS,
    ):
        estimated = estimate_cost(INPUT, "{{ params.model }}", "{{ params.location }}")
        approve = ApprovalOperator(
            task_id="approve",
            subject=f"This will cost {{{{ {ESTIMATE}['cost'] }}}}: go on?",
            body=f"{{{{ {ESTIMATE}['requests'] }}}} requests.\n\n{{{{ {ESTIMATE}['why'] }}}}",
            defaults="Reject",
            response_timeout=timedelta(days=1),
        )
        submit = GeminiBatchSubmitOperator(
            task_id="submit",
            model="{{ params.model }}",
            input_uri=INPUT,
            output_uri="gs://{{ params.bucket }}/results",
            location="{{ params.location }}",
            wait_for_completion=True,
        )
        land = GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=submit.output, destination_table="{{ params.dataset }}.answers_approved"
        )
        estimated >> approve >> submit >> land
