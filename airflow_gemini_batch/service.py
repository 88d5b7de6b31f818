"""What ages of the service: its name, its pages and its limits. What is known of models is in models.json."""

from __future__ import annotations

from datetime import timedelta

PRODUCT = "Gemini Enterprise Agent Platform (Vertex AI)"

DOCUMENTATION = (
    "https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/capabilities/batch-inference"
)
CONSOLE = "https://console.cloud.google.com/"
# The path of a job is inferred from those of the list of jobs, which Google's pages name, and of other jobs.
JOB_PAGE = CONSOLE + "agent-platform/locations/{location}/batch-predictions/{job_id}?project={project}"

MAX_ROWS = 200_000
"""Maximum number of requests in a job."""
MAX_EMBEDDINGS = 1_000_000
"""Maximum number of requests in a job for an embedding model."""
MAX_BYTES = 10**9
"""Maximum size of an input file in Cloud Storage."""

MAX_QUEUED = timedelta(hours=72)
"""After this time in the queue, a job expires."""
MAX_RUNNING = timedelta(hours=24)
"""After this time, a running job is ended."""

LONG_PROMPT_TOKENS = 200_000
"""Requests with longer prompts are billed at the higher tier, for models that have one."""
