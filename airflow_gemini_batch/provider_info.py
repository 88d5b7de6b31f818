"""The provider metadata that Airflow reads through the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any

from airflow_gemini_batch.service import DOCUMENTATION, PRODUCT, REPOSITORY
from airflow_gemini_batch.settings import SECTION, SETTINGS

_INTEGRATION = "Gemini batch inference on Agent Platform (Vertex AI)"
_GUIDES = ("start", "submit", "sensor", "results", "retry", "requests")

_LINKS = ("BatchJobLink", "OutputLink", "ResultsTableLink", "ErrorTableLink", "ReportLink")


def get_provider_info() -> dict[str, Any]:
    """Return the metadata, as specified by Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-gemini-batch",
        "name": _INTEGRATION,
        "description": f"Run Gemini batch inference on {PRODUCT} and land the results in BigQuery.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": DOCUMENTATION,
                "how-to-guide": [f"{REPOSITORY}/blob/main/docs/{page}.md" for page in _GUIDES],
                "tags": ["gcp"],
            }
        ],
        "operators": [_modules("operators", "combine", "jobs", "requests", "retry")],
        "sensors": [_modules("sensors")],
        "hooks": [_modules("hooks")],
        "triggers": [_modules("triggers", "job_events")],
        "task-decorators": [
            {
                "name": "gemini_batch",
                "class-name": "airflow_gemini_batch.decorators.gemini_batch.gemini_batch_task",
            }
        ],
        "config": {
            SECTION: {
                "description": "Batch jobs of airflow-provider-gemini-batch. A value in a DAG comes first.",
                "options": {
                    setting.option: {
                        "description": setting.description,
                        "version_added": setting.version_added,
                        "type": "string",
                        "example": setting.example,
                        "default": "",
                    }
                    for setting in SETTINGS
                },
            }
        },
        "plugins": [
            {
                "name": "gemini_batch",
                "plugin-class": "airflow_gemini_batch.job_page.plugin.GeminiBatchPlugin",
            }
        ],
        "extra-links": [f"airflow_gemini_batch.tasks.links.{name}" for name in _LINKS],
    }


def _modules(kind: str, *more: str) -> dict[str, Any]:
    return {
        "integration-name": _INTEGRATION,
        "python-modules": [f"airflow_gemini_batch.{kind}.{module}" for module in ("gemini_batch", *more)],
    }
