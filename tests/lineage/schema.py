"""The JSON schema of the run facet, as it is installed."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

SCHEMA: dict[str, Any] = json.loads(
    files("airflow_gemini_batch.lineage").joinpath("GeminiBatchRunFacet.json").read_text()
)
