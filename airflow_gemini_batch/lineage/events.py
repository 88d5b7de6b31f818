"""Turns facts into what OpenLineage's extractors expect. Imported only when an event is made."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    external_query_run,
    output_statistics_output_dataset,
    schema_dataset,
)

from airflow_gemini_batch.lineage.facts import MAX_JOBS
from airflow_gemini_batch.lineage.run_facet import NAME, GeminiBatchRunFacet
from airflow_gemini_batch.service import API

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_gemini_batch.lineage.datasets import Dataset
    from airflow_gemini_batch.lineage.facts import Facts
    from airflow_gemini_batch.requests.response_schema import Column


def operator_lineage(facts: Facts) -> OperatorLineage[Any, Any]:
    """Return the datasets and facets of a task run."""
    return OperatorLineage(
        inputs=[InputDataset(each.namespace, each.name, facets=_facets(each)) for each in facts.inputs],
        outputs=[
            OutputDataset(each.namespace, each.name, facets=_facets(each), outputFacets=_output_facets(each))
            for each in facts.outputs
        ],
        run_facets=_run_facets(facts),
    )


def _run_facets(facts: Facts) -> dict[str, Any]:
    if not facts.jobs:
        return {}
    estimate = facts.estimated_cost_usd
    facet = GeminiBatchRunFacet(
        jobs=[_known(asdict(each)) for each in facts.jobs[:MAX_JOBS]],
        jobCount=len(facts.jobs),
        rows=dict(facts.rows),
        tokens=dict(facts.tokens),
        costUsd=facts.cost_usd,
        estimatedCostUsd=dict(estimate) if estimate else None,
    )
    # There is room for one; after several, as of a retry, it is the last.
    external = external_query_run.ExternalQueryRunFacet(externalQueryId=facts.jobs[-1].name, source=API)
    return {NAME: facet, "externalQuery": external}


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "")}


def _facets(dataset: Dataset) -> dict[str, Any]:
    if not dataset.columns:
        return {}
    return {"schema": schema_dataset.SchemaDatasetFacet(fields=_fields(dataset.columns))}


def _fields(columns: Iterable[Column]) -> list[schema_dataset.SchemaDatasetFacetFields]:
    return [
        schema_dataset.SchemaDatasetFacetFields(
            name=each.name,
            type=f"ARRAY<{each.type}>" if each.mode == "REPEATED" else each.type,
            description=each.description or None,
            fields=_fields(each.fields),
        )
        for each in columns
    ]


def _output_facets(dataset: Dataset) -> dict[str, Any]:
    if dataset.rows is None and dataset.size is None:
        return {}
    written = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=dataset.rows, size=dataset.size
    )
    return {"outputStatistics": written}
