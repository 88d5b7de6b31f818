"""What ages: the name, the pages and the limits of the service. What is known of models is in models.json."""

from __future__ import annotations

from datetime import timedelta

PRODUCT = "Gemini Enterprise Agent Platform (Vertex AI)"

DOCUMENTATION = (
    "https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/capabilities/batch-inference"
)
REPOSITORY = "https://github.com/gemini-batch/airflow-provider-gemini-batch"
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

READS_A_MINUTE = 600
"""Maximum number of jobs read, listed and cancelled a minute, in a project and region, by all clients."""
SUBMISSIONS_A_MINUTE = 60
"""Maximum number of jobs created and deleted a minute, in a project and region, by all clients."""
COUNT_TOKENS_A_MINUTE = 3_000
"""Maximum number of calls of countTokens a minute, in a project and region, by all clients."""
PAGE_ROWS = 100
"""Maximum number of jobs in a page of a list."""

MAX_LOAD_BYTES = 15 * 10**12
"""Maximum size of the objects that one BigQuery load reads."""
MAX_LOAD_URIS = 10_000
"""Maximum number of URIs in one BigQuery load."""
TABLE_MODIFICATIONS_A_DAY = 1_500
"""Maximum number of loads into one BigQuery table a day; statements such as INSERT do not count."""

LONG_PROMPT_TOKENS = 200_000
"""Requests with longer prompts are billed at the higher tier, for models that have one."""

API = "aiplatform.googleapis.com"
"""The name of the API."""
