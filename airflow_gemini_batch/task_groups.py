"""``gemini_batch(...)``: the steps of ``@task.gemini_batch`` as separate tasks, retried one by one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import TaskGroup, task_group

from airflow_gemini_batch.exceptions import Described, InvalidParameterError
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from airflow_gemini_batch.jobs.quota import DEFAULT_SUBMIT_TIMEOUT
from airflow_gemini_batch.operators.combine import GeminiBatchCombineInputsOperator
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import GeminiBatchRequestsOperator
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from airflow_gemini_batch.settings import STAGING_URI
from airflow_gemini_batch.tasks.landing_options import LandingOptions, check_not_landed
from airflow_gemini_batch.tasks.options import (
    ConnectionOptions,
    DeferOptions,
    EndOptions,
    KeyOptions,
    RequestOptions,
    SubmitOptions,
    WaitOptions,
)
from airflow_gemini_batch.tasks.parameters import check_callable, documented

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import timedelta

    from airflow_gemini_batch.cost.prices import NegotiatedPrices

_GATES = ("min_success_ratio", "max_invalid_ratio")
# A report is about one job, and `retry` must not truncate.
_ONLY_FOR_LAND = ("report_uri", "write_mode")
_FOR_RETRY = tuple(field.name for field in fields(LandingOptions) if field.name not in _ONLY_FOR_LAND)


@documented(
    RequestOptions, KeyOptions, SubmitOptions, WaitOptions, EndOptions, LandingOptions, ConnectionOptions
)
def gemini_batch(
    python_callable: Callable[..., Any] | None = None,
    *,
    model: str,
    staging_uri: str | None = None,
    input_uri: str | Sequence[str] | None = None,
    group_id: str = "gemini_batch",
    op_args: Collection[Any] | None = None,
    op_kwargs: Mapping[str, Any] | None = None,
    output_uri: str | None = None,
    location: str | None = None,
    project_id: str | None = None,
    template: Any = None,
    system_instruction: str | None = None,
    generation_config: Any = None,
    response_schema: Any = None,
    safety_settings: Sequence[Any] | None = None,
    tools: Sequence[Any] | None = None,
    key_label: bool = False,
    key_field: str = KEY_FIELD,
    embedding_config: Any = None,
    labels: Mapping[str, str] | None = None,
    preflight: bool | None = None,
    max_cost_usd: float | str | None = None,
    prices: Mapping[str, Any] | NegotiatedPrices | None = None,
    estimated_output_tokens: int | None = None,
    submit_timeout: timedelta | float = DEFAULT_SUBMIT_TIMEOUT,
    cancel_on_kill: bool = False,
    cancel_on_timeout: bool = False,
    deferrable: bool = True,
    on_incomplete: str = "fail",
    poll_interval: float = DEFAULT_POLL_INTERVAL,
    wait_timeout: timedelta | float = DEFAULT_TIMEOUT,
    results_table: str | None = None,
    error_table: str | None = None,
    write_mode: str = "append",
    include_request: bool = True,
    include_response: bool = True,
    media_uri_prefix: str | None = None,
    min_success_ratio: float = 0.0,
    max_invalid_ratio: float = 1.0,
    report_uri: str | None = None,
    usage_view: bool = True,
    emit_asset: bool = True,
    gcp_conn_id: str = "google_cloud_default",
    impersonation_chain: str | Sequence[str] | None = None,
    requests: Mapping[str, Any] | None = None,
    submit: Mapping[str, Any] | None = None,
    wait: Mapping[str, Any] | None = None,
    land: Mapping[str, Any] | None = None,
    max_retry_rounds: int = 0,
    retry: Mapping[str, Any] | None = None,
) -> TaskGroup:
    """Create the task ``requests``, and for each job ``job.submit`` → ``job.wait`` → ``job.land``.

    The requests come from a function, or from files, which are combined into few jobs. There is one job for
    every 200,000 requests (1,000,000 for an embedding model) or gigabyte of input. The group ``job`` is
    mapped over them: if a task of one job fails, the tasks of the others run to their end, and the DAG run
    then fails.

    :param python_callable: function that returns or yields prompts; leave it out if you give ``input_uri``
    :param model: model ID such as ``gemini-3.5-flash``, ``publishers/google/models/ID``, or the resource
        name of a tuned model
    :param staging_uri: ``gs://bucket/prefix`` for requests and output; default: the option
        ``[gemini_batch] staging_uri``
    :param input_uri: in place of a function: JSONL in Cloud Storage, one or more ``gs://…`` URIs, which may
        have wildcards. The parameters of all requests are then not taken, except ``response_schema``
    :param group_id: ID of the task group
    :param op_args: positional arguments for the function
    :param op_kwargs: keyword arguments for the function
    :param output_uri: where the service writes its output; default: ``results`` under ``staging_uri``
    :param location: ``global``, ``us``, ``eu`` or a region, where the model is offered; default
        ``[gemini_batch] location``
    :param project_id: project of the batch jobs and of the BigQuery jobs; default: the connection's project,
        then ``[gemini_batch] project_id``
    :param template: text with ``{field}`` placeholders, filled from each row that the function returns
    :param response_schema: pydantic model or JSON Schema of a response, requested from the model and used
        for typed columns; ``False`` disables both, and a schema that a prompt sets itself makes no columns
    :param max_cost_usd: limit in US dollars for each job, and for all retry rounds of a job together
    :param cancel_on_kill: cancel a job when a user marks ``wait`` as failed or succeeded; while it is
        deferred, this requires Airflow 3.3 or later. Off by default: the job is that of ``submit``
    :param results_table: BigQuery table for the results; if not set, there is no task ``job.land``
    :param requests: further parameters of :class:`GeminiBatchRequestsOperator`, or with ``input_uri`` of
        :class:`GeminiBatchCombineInputsOperator`
    :param submit: further parameters of :class:`GeminiBatchSubmitOperator`
    :param wait: further parameters of :class:`GeminiBatchJobSensor`
    :param land: further parameters of :class:`GeminiBatchResultsToBigQueryOperator`
    :param max_retry_rounds: if at least 1, add a task ``job.retry`` that resubmits failed requests for up to
        this many rounds; the quality gates are then checked after the last round instead of in ``land``
    :param retry: further parameters of :class:`GeminiBatchRetryFailedOperator`; by default it uses the
        parameters of ``submit``, ``wait`` and ``land`` that apply to it
    """
    shared = locals()
    # Checked here: the tasks that would check them run after the job is paid.
    WaitOptions(**WaitOptions.pick(shared))
    EndOptions(**EndOptions.pick(shared))
    # What is left out comes from the DAG's default_args.
    connection = ConnectionOptions.given(shared)
    common = {**connection, **({"project_id": project_id} if project_id else {})}
    place = {"location": location} if location else {}
    keys = KeyOptions.given(shared)  # The same for all tasks.
    submitting, waiting = {**keys, **SubmitOptions.given(shared)}, WaitOptions.given(shared)
    own, for_retry = _split_landing(
        {**LandingOptions.given(shared), **(land or {})}, with_retries=bool(max_retry_rounds)
    )
    _check_source(shared)
    staging_uri = STAGING_URI.value() if staging_uri is None else staging_uri
    if not isinstance(staging_uri, str):
        fix = "give gs://bucket/prefix, or set [gemini_batch] staging_uri"
        raise InvalidParameterError("staging_uri", staging_uri, fix)
    for name, each in (
        ("requests", requests),
        ("submit", submit),
        ("wait", wait),
        ("land", land),
        ("retry", retry),
    ):
        if each is not None and not isinstance(each, dict):
            fix = f"give a dict of further parameters of the task {name}"
            raise InvalidParameterError(name, each, fix)
    if not results_table:
        check_not_landed({**shared, **(land or {})})
    if max_retry_rounds and not results_table:
        fix = "give results_table, which the failed requests are read from"
        raise InvalidParameterError("max_retry_rounds", max_retry_rounds, fix)
    waiting_again = {name: value for name, value in waiting.items() if name != "cancel_on_kill"}
    building = {**RequestOptions.given(shared), **(requests or {})} if input_uri is None else {}
    for given in (own, for_retry, retry or {}):
        _check_schema(given.get("response_schema"), building.get("response_schema"))
    tasks = _JobTasks(
        submit={
            "model": model,
            "output_uri": output_uri or f"{staging_uri.rstrip('/')}/results",
            **common,
            **place,
            **({"results_table": results_table} if results_table else {}),
            **submitting,
            **(submit or {}),
        },
        wait={**connection, **_of_sensor(waiting), **EndOptions.given(shared), **(wait or {})},
        land={"destination_table": results_table, **DeferOptions.given(shared), **common, **keys, **own}
        if results_table
        else None,
        retry={
            "results_table": results_table,
            "max_rounds": max_retry_rounds,
            **({"key_label": True} if key_label else {}),
            **common,
            **submitting,
            **waiting_again,
            **for_retry,
            **(retry or {}),
        }
        if max_retry_rounds
        else None,
    )
    with TaskGroup(group_id) as group:
        built: Any
        if input_uri is not None:
            combining: dict[str, Any] = {"model": model, **common, **(requests or {})}
            built = GeminiBatchCombineInputsOperator(task_id="requests", input_uri=input_uri, **combining)
        else:
            built = GeminiBatchRequestsOperator(
                task_id="requests",
                python_callable=python_callable,  # type: ignore[arg-type]
                op_args=op_args,
                op_kwargs=op_kwargs,
                staging_uri=staging_uri,
                model=model,
                **{"template": template, **common, **keys, **building},
            )
        task_group(group_id="job")(tasks.of_one_job).expand(input_uri=built.output)
    return group


@dataclass(frozen=True)
class _JobTasks:
    """The parameters of the tasks that each job has; ``None`` for a task that it does not have."""

    submit: Mapping[str, Any]
    wait: Mapping[str, Any]
    land: Mapping[str, Any] | None
    retry: Mapping[str, Any] | None

    def of_one_job(self, input_uri: Any) -> None:
        """The tasks of one job. They run to their end, whatever becomes of the other jobs."""
        # Airflow shows the docstring on the group. If each task were mapped, it would wait for all jobs.
        submit = GeminiBatchSubmitOperator(task_id="submit", input_uri=input_uri, **self.submit)
        job_name: Any = submit.output
        last: Any = GeminiBatchJobSensor(task_id="wait", job_name=job_name, **self.wait)
        for task_id, operator, given in (
            ("land", GeminiBatchResultsToBigQueryOperator, self.land),
            ("retry", GeminiBatchRetryFailedOperator, self.retry),
        ):
            if given is not None:
                following: Any = operator(task_id=task_id, job_name=job_name, **given)
                last >> following
                last = following


def _check_source(given: Mapping[str, Any]) -> None:
    """Check that the requests come from a function or from files, and not from both."""
    if given["input_uri"] is None:
        check_callable(given["python_callable"])
        return
    of_function = {name: given[name] for name in ("python_callable", "op_args", "op_kwargs", "template")}
    given_as_well = {**of_function, **RequestOptions.given(given), "response_schema": None}
    for name, value in given_as_well.items():
        if value is not None:
            fix = "leave it out, or leave out input_uri: the requests in the files are submitted as they are"
            raise InvalidParameterError(name, Described("is set"), fix)


def _check_schema(schema: Any, asked_for: Any) -> None:
    """Check a schema that the task ``requests`` does not check."""
    if schema and schema is not asked_for:
        # Imported here: most groups have no schema.
        from airflow_gemini_batch.requests.response_schema import ResponseSchema

        ResponseSchema.of(schema)


def _of_sensor(waiting: Mapping[str, Any]) -> dict[str, Any]:
    """Return wait options under the names that a sensor gives them."""
    return {"timeout" if name == "wait_timeout" else name: value for name, value in waiting.items()}


def _split_landing(
    landing: Mapping[str, Any], *, with_retries: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters of ``land``, and those of them that ``retry`` takes over.

    The last task checks the quality gates. Both tasks must agree on where and how rows are stored.
    """
    if not with_retries:
        return dict(landing), {}
    own = {name: value for name, value in landing.items() if name not in _GATES}
    for_retry = {name: landing[name] for name in _FOR_RETRY if name in landing}
    if landing.get("write_mode") == "merge":
        for_retry["write_mode"] = "merge"
    return own, for_retry
