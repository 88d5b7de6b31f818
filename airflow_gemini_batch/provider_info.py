"""The provider metadata that Airflow reads through the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any

from airflow_gemini_batch.service import DOCUMENTATION, PRODUCT

_INTEGRATION = "Gemini batch inference on Agent Platform (Vertex AI)"


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
                "tags": ["gcp"],
            }
        ],
        "operators": [_modules("operators", "requests", "retry")],
        "sensors": [_modules("sensors")],
        "hooks": [_modules("hooks")],
        "triggers": [_modules("triggers")],
        "task-decorators": [
            {
                "name": "gemini_batch",
                "class-name": "airflow_gemini_batch.decorators.gemini_batch.gemini_batch_task",
            }
        ],
        "config": {
            "gemini_batch": {
                "description": "Batch jobs of airflow-provider-gemini-batch.",
                "options": {
                    "installation": {
                        "description": "Any name that differs between your Airflow installations. Batch jobs "
                        "are marked with it, so that an installation leaves the jobs of others alone. By "
                        "default a random value that is stored as the Airflow variable "
                        "gemini_batch_installation.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    }
                },
            }
        },
        "extra-links": ["airflow_gemini_batch.tasks.links.BatchJobLink"],
    }


def _modules(kind: str, *more: str) -> dict[str, Any]:
    return {
        "integration-name": _INTEGRATION,
        "python-modules": [f"airflow_gemini_batch.{kind}.{module}" for module in ("gemini_batch", *more)],
    }
