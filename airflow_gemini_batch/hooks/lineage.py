"""What a hook tells Airflow's hook lineage, for tasks that say nothing of their data themselves."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.lineage.datasets import BIGQUERY, of_uris

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.lineage.datasets import Dataset

log = logging.getLogger(__name__)


def report_job(hook: Any, spec: JobSpec) -> None:
    """Report the input and the output of a job that was created, if anybody reads it.

    The job exists, so nothing that goes wrong here may look like a failure to create it.
    """
    try:
        if not _has_readers():
            return
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        for uri in asset_uris(of_uris(spec.input_uris)):
            collector.add_input_asset(context=hook, uri=uri)
        for uri in asset_uris(of_uris([spec.output_uri])):
            collector.add_output_asset(context=hook, uri=uri)
    except Exception as error:
        log.warning("Hook lineage was not reported: %s", type(error).__name__)


def asset_uris(datasets: Iterable[Dataset]) -> list[str]:
    """Return datasets as URIs of assets, in the form of the Google provider."""
    return [
        f"bigquery://{each.name.replace('.', '/')}"
        if each.namespace == BIGQUERY
        else f"{each.namespace}/{each.name.strip('/')}"
        for each in datasets
    ]


def _has_readers() -> bool:
    """Whether a plugin reads hook lineage. To make a collector takes seconds, also one that does nothing."""
    try:
        plugins = import_module("airflow.sdk.plugins_manager")
    except ImportError:
        # Airflow before 3.2 keeps them in a variable.
        plugins = import_module("airflow.plugins_manager")
        plugins.initialize_hook_lineage_readers_plugins()
        return bool(plugins.hook_lineage_reader_classes)
    return bool(plugins.get_hook_lineage_readers_plugins())
