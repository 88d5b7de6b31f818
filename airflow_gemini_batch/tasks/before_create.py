"""Checks right before a job is created: whether it can read and write, and what it may cost."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.gcp.bigquery_message import explain_error
from airflow_gemini_batch.gcp.gcs_uri import split_uri
from airflow_gemini_batch.gcp.table_name import TableName, get_table
from airflow_gemini_batch.jobs.identity import ESTIMATE_LABEL
from airflow_gemini_batch.jobs.model_notices import warnings_about
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud import bigquery as bq

    from airflow_gemini_batch.cost.budget import Budget
    from airflow_gemini_batch.cost.sample import Sample
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.requests.key_field import KeyField
    from airflow_gemini_batch.tasks.land import Landing
    from airflow_gemini_batch.tasks.options import SubmitOptions


log = logging.getLogger(__name__)


def check_job(
    options: SubmitOptions,
    hook: GeminiBatchHook,
    spec: JobSpec,
    budget: Budget,
    key_field: KeyField = DEFAULT_KEY_FIELD,
) -> dict[str, str]:
    """Refuse a job that would fail or cost too much.

    :param budget: of this job, which may be less than ``options.max_cost_usd``
    :param key_field: where the rows of the input have their keys
    :return: labels for the job: the estimate, if there is one
    :raises InvalidParameterError: the input would fail the job, or its output could not be written
    :raises CostLimitError: it may cost more than allowed
    """
    from airflow_gemini_batch.requests.checking.preflight import preflight
    from airflow_gemini_batch.requests.in_bigquery.preflight import preflight_table

    for notice in warnings_about(spec.model, spec.location, datetime.now(UTC).date()):
        log.warning(notice)
    if options.preflight is not False:
        _check_output(hook, spec)
    if options.preflight is not False and not spec.input_table:
        storage = hook.storage_client(spec.project)
        preflight(spec.input_uris, storage, key_field, asked_for=bool(options.preflight), model=spec.model)
    elif options.preflight and spec.input_table:
        # Only on request, since a query costs money.
        table = str(TableName.parse(spec.input_table))
        preflight_table(table, hook.bigquery_client(spec.project), key_field, model=spec.model)
    if budget.limit is None and (options.preflight is False or spec.input_table):
        return {}
    return _estimate(options, hook, spec, budget)


def check_destination(landing: Landing, hook: GeminiBatchHook, spec: JobSpec) -> None:
    """Refuse a job whose results could not be landed.

    :raises LandingError: the dataset, its location or a table does not fit; nothing is charged
    """
    from google.api_core.exceptions import Forbidden

    from airflow_gemini_batch.results.columns import result_columns
    from airflow_gemini_batch.results.destination import check_before_job

    bigquery, storage = hook.bigquery_client(landing.project), hook.storage_client(spec.project)
    tables = (landing.destination, landing.error_table)
    columns = result_columns(landing.response_schema)
    try:
        check_before_job(tables, columns, spec.output_uri, spec.location, bigquery, storage)
    except Forbidden:
        name = landing.destination
        log.info("No permission to read metadata, so it is not checked whether results fit into %s", name)


def _check_output(hook: GeminiBatchHook, spec: JobSpec) -> None:
    """Refuse an output that does not exist: the job would answer all rows, charge them and then fail."""
    from google.api_core.exceptions import Forbidden, NotFound

    if spec.output_uri.startswith("bq://"):
        what, name = "dataset", spec.output_uri.removeprefix("bq://")
        if spec.has_output_table:
            name = TableName.parse(spec.output_uri).dataset_id
        look = partial(hook.bigquery_client(spec.project).get_dataset, name)
    else:
        what, (name, _) = "bucket", split_uri(spec.output_uri)
        look = partial(hook.storage_client(spec.project).get_bucket, name)
    try:
        look()
    except NotFound:
        fix = (
            f"{what} {name} does not exist, so the job could not write its output: create it, or name another"
        )
        raise InvalidParameterError("output_uri", spec.output_uri, fix) from None
    except Forbidden:
        # To write there takes other permissions than to look.
        log.info("No permission to read metadata, so it is not checked whether it exists: %s %s", what, name)
        return
    if spec.has_output_table:
        _name_existing(TableName.parse(spec.output_uri), hook.bigquery_client(spec.project))


def _name_existing(output: TableName, bigquery: bq.Client) -> None:
    """Warn of an output table that exists: a job in another location or project may write to it.

    Jobs in the same location are looked up, and refused.
    """
    from google.api_core.exceptions import Forbidden

    try:
        table = get_table(bigquery, output)
    except Forbidden:
        return
    if table:
        log.warning(
            "The output table exists already, with %s: %s",
            counted(table.num_rows or 0, "row"),
            output,
        )
        log.warning(
            "Rows of another job there cannot be told apart. Give each job a table of its own, or a dataset."
        )


def _estimate(options: SubmitOptions, hook: GeminiBatchHook, spec: JobSpec, budget: Budget) -> dict[str, str]:
    from google.api_core.exceptions import Forbidden

    from airflow_gemini_batch.cost.budget import keep_to_budget

    try:
        sample = _sample(hook, spec)
    except Forbidden as error:
        if budget.limit is None:
            log.info("The cost of the job is not estimated: no permission to read the input")
            return {}
        reason = explain_error(error) if spec.input_table else error.message
        raise InvalidParameterError(
            "max_cost_usd",
            options.max_cost_usd,
            f"the cost cannot be estimated, since these credentials may not read the input: {reason}. "
            "Grant read access, or remove the limit",
        ) from None
    # Only for a limit: these twenty calls are free, but take time.
    count = partial(hook.count_tokens, spec) if budget.limit is not None else None
    cost = keep_to_budget(sample, spec.model, spec.location, budget, count).cost_usd
    return {ESTIMATE_LABEL: cost.to_label()} if cost else {}


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
