"""What is checked of an input when a job is about to be created of it: whether it runs, what it costs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.jobs.identity import ESTIMATE_LABEL
from airflow_gemini_batch.jobs.spec import MAX_OWN_LABELS
from airflow_gemini_batch.tasks.wait import LoggingFace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_gemini_batch.cost.budget import Budget
    from airflow_gemini_batch.cost.sample import Sample
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.spec import JobSpec


class SubmittingFace(LoggingFace, Protocol):
    """A face that submits jobs."""

    preflight: bool | None
    max_cost_usd: Any
    prices: Any
    estimated_output_tokens: int | None


def budget_of(face: SubmittingFace) -> Budget:
    """What may be paid.

    :raises InvalidParameterError: one of the face's values cannot be
    """
    from airflow_gemini_batch.cost.budget import Budget

    return Budget.of(face.max_cost_usd, face.prices, face.estimated_output_tokens)


def check_input(face: SubmittingFace, hook: GeminiBatchHook, spec: JobSpec, budget: Budget) -> dict[str, str]:
    """Refuse an input that would fail the job or cost too much.

    :return: labels for the job: the estimate, where there is one
    :raises InvalidParameterError: the input would fail the job
    :raises CostLimitError: it may cost more than allowed
    """
    from airflow_gemini_batch.requests.checking.preflight import preflight
    from airflow_gemini_batch.requests.in_bigquery.preflight import preflight_table

    if face.preflight is not False and not spec.input_table:
        preflight(spec.input_uris, hook.storage_client(spec.project), asked_for=bool(face.preflight))
    elif face.preflight and spec.input_table:
        # Not unless asked for: a query is paid for.
        preflight_table(str(TableName.parse(spec.input_table)), hook.bigquery_client(spec.project))
    if budget.limit is None and (face.preflight is False or spec.input_table):
        return {}
    return _estimate(face, hook, spec, budget)


def _estimate(face: SubmittingFace, hook: GeminiBatchHook, spec: JobSpec, budget: Budget) -> dict[str, str]:
    from google.api_core.exceptions import Forbidden

    from airflow_gemini_batch.cost.budget import keep_to_budget

    try:
        sample = _sample(hook, spec)
    except Forbidden as error:
        if budget.limit is None:
            face.log.info("What the job will cost is not estimated: no permission to read the input")
            return {}
        raise InvalidParameterError(
            "max_cost_usd",
            face.max_cost_usd,
            f"these credentials may not read the input, so nobody can say what it costs: {error.message}. "
            "Allow that, or leave the limit out",
        ) from error
    # Counted only for a limit: twenty calls that cost nothing but time.
    count = partial(hook.count_tokens, spec) if budget.limit is not None else None
    cost = keep_to_budget(sample, spec.model, budget, count).cost_usd
    return {ESTIMATE_LABEL: cost.to_label()} if cost and len(spec.labels) < MAX_OWN_LABELS else {}


def _sample(hook: GeminiBatchHook, spec: JobSpec) -> Sample:
    from airflow_gemini_batch.cost.sample import sample_objects, sample_table
    from airflow_gemini_batch.requests.checking.earlier_output import is_output_table

    if not spec.input_table:
        return sample_objects(spec.input_uris, hook.storage_client(spec.project))
    bigquery = hook.bigquery_client(spec.project)
    name = str(TableName.parse(spec.input_table))
    table = bigquery.get_table(name)
    types: Mapping[str, str] = {field.name: field.field_type for field in table.schema}
    if "request" not in types:
        raise InvalidParameterError("input_uri", spec.input_table, "it has no column `request`")
    sample = sample_table(name, types["request"], table.location, bigquery)
    return replace(sample, is_output=is_output_table(types))
