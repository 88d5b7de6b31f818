"""The run facet ``gemini_batch``. It imports OpenLineage's client, so only events import it."""

from __future__ import annotations

from typing import Any, ClassVar

import attr
from openlineage.client.facet_v2 import RunFacet

NAME = "gemini_batch"
SCHEMA_URL = "urn:airflow-provider-gemini-batch:GeminiBatchRunFacet:1-0-0"
"""The ``$id`` of ``GeminiBatchRunFacet.json`` beside this module. Each change of the facet changes it."""


@attr.define
class GeminiBatchRunFacet(RunFacet):
    """The batch jobs of a task run, and the rows that it landed. No prompt, response or key is in it.

    :param jobs: for each batch job ``name``, ``model``, ``location``, ``state``, ``output_location``,
        ``error_code`` and ``error``, as the task last saw it; at most 50
    :param jobCount: how many jobs there are
    :param rows: landed rows by status
    :param tokens: of landed rows, by kind
    :param costUsd: of landed rows, in US dollars; absent if the price is unknown
    :param estimatedCostUsd: ``low`` and ``high``, as estimated before the jobs were created
    """

    jobs: list[dict[str, Any]] = attr.field(factory=list)
    jobCount: int = attr.field(default=0)  # noqa: N815 - as OpenLineage spells fields
    rows: dict[str, int] = attr.field(factory=dict)
    tokens: dict[str, int] = attr.field(factory=dict)
    costUsd: float | None = attr.field(default=None)  # noqa: N815
    estimatedCostUsd: dict[str, float | None] | None = attr.field(default=None)  # noqa: N815

    _additional_skip_redact: ClassVar[list[str]] = ["jobCount", "rows", "tokens", "costUsd"]

    @staticmethod
    def _get_schema() -> str:
        return SCHEMA_URL
