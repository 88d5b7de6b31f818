"""Classify every installed Python distribution: real text, one batch job, one typed table.

The first task writes the requests, and the results land in the table `python_distributions`.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from importlib import metadata
from io import StringIO

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

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

ANSWER = {
    "type": "object",
    "properties": {
        "category": {
            "type": "string",
            "enum": ["data", "web", "cloud", "testing", "security", "tooling", "other"],
        },
        "one_line_summary": {"type": "string"},
        "audience": {"type": "string", "enum": ["beginners", "application developers", "operators"]},
    },
    "required": ["category", "one_line_summary", "audience"],
}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch", "demo"],
    description="Classifies every installed Python distribution",
    doc_md=__doc__,
    params=PARAMS,
)
def gemini_batch_demo():
    @task
    def write_requests(bucket: str, run_id: str | None = None) -> str:
        """Write one request per distribution: its name, summary and description, and the response schema."""
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        lines = StringIO()
        for name, text in sorted(installed_distributions().items()):
            prompt = f"Describe this Python package.\n\n{text}"
            request = {
                "contents": [{"role": "user", "parts": [{"text": prompt}]}],
                "generationConfig": {"responseMimeType": "application/json", "responseSchema": ANSWER},
            }
            lines.write(json.dumps({"key": f"dist-{name}", "request": request}) + "\n")
        folder = "".join(c if c.isalnum() else "-" for c in run_id or "manual")
        GCSHook().upload(bucket, f"demo/{folder}/requests.jsonl", data=lines.getvalue())
        return f"gs://{bucket}/demo/{folder}/requests.jsonl"

    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="{{ params.model }}",
        input_uri=write_requests("{{ params.bucket }}"),
        output_uri="gs://{{ params.bucket }}/demo/results",
        location="{{ params.location }}",
    )
    wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=submit.output,
        destination_table="{{ params.dataset }}.python_distributions",
        response_schema=ANSWER,
    )
    wait >> land


def installed_distributions() -> dict[str, str]:
    """Map each distribution's name to its name, summary and the first 2,000 characters of its description."""
    texts = {}
    for distribution in metadata.distributions():
        about = distribution.metadata
        name = about["Name"].lower()
        description = about.get("Description") or about.get_payload() or ""
        texts[name] = f"{about['Name']}: {about.get('Summary') or ''}\n\n{description[:2000]}"
    return texts


gemini_batch_demo()
