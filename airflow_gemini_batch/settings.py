"""The options of ``[gemini_batch]`` in Airflow's configuration, and the environment variables beside them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

SECTION = "gemini_batch"


@dataclass(frozen=True)
class Setting:
    """An option of ``[gemini_batch]``.

    :param description: shown by ``airflow config list`` and ``airflow providers``
    :param example: a value
    :param variable: environment variable that is read if the option is not set; ``""`` if there is none
    """

    option: str
    description: str
    example: str
    variable: str = ""
    version_added: str = "0.1.0"

    def value(self) -> str | None:
        """Return the option if it is set, else the environment variable, else ``None``."""
        return self.configured() or os.environ.get(self.variable) or None

    def configured(self) -> str:
        """Return the option, or ``""`` if it is not set or this process has not loaded Airflow."""
        # Every Airflow class of this package imports this module. The command line and the checks of requests
        # do without Airflow, whose import takes a second, so they read only the environment variables.
        airflow: Any = sys.modules.get("airflow.providers.common.compat.sdk")
        return str(airflow.conf.get(SECTION, self.option, fallback="") or "").strip() if airflow else ""


INSTALLATION = Setting(
    "installation",
    "Any name that differs between your Airflow installations. Batch jobs are marked with it, so that an "
    "installation leaves the jobs of others alone. By default a random value that is stored as the Airflow "
    "variable gemini_batch_installation.",
    "production",
)
PROJECT_ID = Setting(
    "project_id",
    "Project of batch jobs, for tasks that set none and connections without one. It is used before the "
    "project of the credentials.",
    "my-project",
    "GOOGLE_CLOUD_PROJECT",
)
LOCATION = Setting(
    "location",
    "Location of batch jobs, for tasks that set none.",
    "global",
    "GOOGLE_CLOUD_LOCATION",
)
STAGING_URI = Setting(
    "staging_uri",
    "Folder in Cloud Storage for requests and output, for tasks that set none.",
    "gs://my-bucket/gemini",
    "GEMINI_BATCH_STAGING_URI",
)
MODELS_FILE = Setting(
    "models_file",
    "Path of a file in the format of the package's models.json, with newer facts about models.",
    "/opt/airflow/config/models.json",
    "GEMINI_BATCH_MODELS",
)
PAGE_SOURCES = Setting(
    "page_sources",
    "Where the page with the batch jobs looks for them: PROJECT/LOCATION or CONNECTION@PROJECT/LOCATION, and "
    "commas between several. By default the project of the connection google_cloud_default, and the option "
    "location or global.",
    "my-project/global,production@my-project/us-central1",
)
SETTINGS = (INSTALLATION, PROJECT_ID, LOCATION, STAGING_URI, MODELS_FILE, PAGE_SOURCES)
