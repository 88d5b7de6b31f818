"""``gemini_batch(...)``: the steps of ``@task.gemini_batch`` as tasks to be seen, cleared and retried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import TaskGroup

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import GeminiBatchRequestsOperator
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

_GATES = ("min_success_ratio", "max_invalid_ratio")
_OF_BOTH = ("error_table", "include_request", "include_response", "media_uri_prefix", "prices", "usage_view")


def gemini_batch(
    python_callable: Callable[..., Any],
    *,
    model: str,
    staging_uri: str,
    group_id: str = "gemini_batch",
    op_args: Collection[Any] | None = None,
    op_kwargs: Mapping[str, Any] | None = None,
    output_uri: str | None = None,
    response_schema: Any = None,
    results_table: str | None = None,
    location: str | None = None,
    project_id: str | None = None,
    gcp_conn_id: str = "google_cloud_default",
    impersonation_chain: str | Sequence[str] | None = None,
    requests: Mapping[str, Any] | None = None,
    submit: Mapping[str, Any] | None = None,
    wait: Mapping[str, Any] | None = None,
    land: Mapping[str, Any] | None = None,
    max_retry_rounds: int = 0,
    retry: Mapping[str, Any] | None = None,
) -> TaskGroup:
    """Make the tasks ``requests`` → ``submit`` → ``wait`` → ``land``, all but the first mapped over jobs.

    As many jobs as the requests need: one for each 200,000 requests or gigabyte.

    :param python_callable: returns or yields prompts
    :param staging_uri: ``gs://bucket/prefix`` for requests and output
    :param output_uri: default ``results`` in ``staging_uri``
    :param response_schema: pydantic model or JSON Schema of an answer, asked for and made columns of;
        ``False``: neither, though prompts may have one of their own
    :param results_table: without it there is no task ``land``
    :param requests: further parameters of :class:`GeminiBatchRequestsOperator`
    :param submit: further parameters of :class:`GeminiBatchSubmitOperator`
    :param wait: further parameters of :class:`GeminiBatchJobSensor`
    :param land: further parameters of :class:`GeminiBatchResultsToBigQueryOperator`
    :param max_retry_rounds: with at least 1, a task ``retry`` asks again what failed and may succeed; the
        gates in ``land`` are then held against what is there after its last round
    :param retry: further parameters of :class:`GeminiBatchRetryFailedOperator`; by default it stores rows as
        ``land`` does
    """
    connection = {"gcp_conn_id": gcp_conn_id, "impersonation_chain": impersonation_chain}
    with TaskGroup(group_id) as group:
        built = GeminiBatchRequestsOperator(
            task_id="requests",
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            staging_uri=staging_uri,
            response_schema=response_schema,
            project_id=project_id,
            **{**connection, **(requests or {})},
        )
        jobs = GeminiBatchSubmitOperator.partial(
            task_id="submit",
            model=model,
            output_uri=output_uri or f"{staging_uri.rstrip('/')}/results",
            location=location,
            project_id=project_id,
            **{**connection, **(submit or {})},
        ).expand(input_uri=built.output)
        ended = GeminiBatchJobSensor.partial(task_id="wait", **{**connection, **(wait or {})}).expand(
            job_name=jobs.output
        )
        if results_table:
            own, later = _gates_last(land or {}, with_retries=bool(max_retry_rounds))
            landed = GeminiBatchResultsToBigQueryOperator.partial(
                task_id="land",
                destination_table=results_table,
                response_schema=response_schema,
                project_id=project_id,
                **{**connection, **own},
            ).expand(job_name=jobs.output)
            ended >> landed
        if max_retry_rounds:
            if not results_table:
                raise InvalidParameterError(
                    "max_retry_rounds", max_retry_rounds, "failures are read off results_table; give it"
                )
            again = GeminiBatchRetryFailedOperator.partial(
                task_id="retry",
                results_table=results_table,
                max_rounds=max_retry_rounds,
                response_schema=response_schema,
                project_id=project_id,
                **{**connection, **later, **(retry or {})},
            ).expand(job_name=jobs.output)
            landed >> again
    return group


def _gates_last(land: Mapping[str, Any], *, with_retries: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the parameters of ``land``: its own, and what ``retry`` is told of them.

    Gates are for what the last task leaves; where rows are stored, and what of them, both must agree on.
    """
    if not with_retries:
        return dict(land), {}
    own = {name: value for name, value in land.items() if name not in _GATES}
    later = {name: land[name] for name in (*_GATES, *_OF_BOTH) if name in land}
    if land.get("write_mode") == "merge":  # Not `truncate`: a retry would delete what it does not ask.
        later["write_mode"] = "merge"
    return own, later
