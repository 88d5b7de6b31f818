"""``@task.gemini_batch``: a function returns prompts, the task returns their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.tasks.land import land_results, landing_values
from airflow_gemini_batch.tasks.store_requests import staging_folder, store_requests
from airflow_gemini_batch.tasks.wait import connect, fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context, TaskDecorator

_SUBMIT_FIELDS = tuple(name for name in GeminiBatchSubmitOperator.template_fields if name != "input_uri")


class GeminiBatchDecoratedOperator(DecoratedOperator, GeminiBatchSubmitOperator):
    """Builds requests from what a function returns or yields, submits them, waits, and lands the answers.

    What the function gives is never rendered as a template; its arguments are, as everywhere in Airflow.
    Takes the parameters of :class:`GeminiBatchSubmitOperator` but ``input_uri``, and these.

    :param staging_uri: ``gs://bucket/prefix`` for requests and output; default ``GEMINI_BATCH_STAGING_URI``
        (templated)
    :param output_uri: default ``results`` in ``staging_uri`` (templated)
    :param template: text with ``{fields}``, filled from each row that the function gives
    :param system_instruction: text
    :param generation_config: temperature, token limits, thinking …
    :param response_schema: pydantic model or JSON Schema of an answer; its properties become columns.
        ``False``: none is asked for, and that of the prompts' own makes no columns either
    :param safety_settings: list of ``SafetySetting``
    :param tools: list of ``Tool``
    :param results_table: land the answers there; the task then returns the manifest, else the job's name
        (templated)
    :param error_table: default ``results_table`` with ``_errors`` behind it (templated)
    :param write_mode: ``append`` to what other jobs have landed, ``merge`` with it by key, or ``truncate``
    :param include_request: store requests in the results table; the error table has them in any case
    :param include_response: store responses in the results table
    :param media_uri_prefix: store images that answers hold there, ``gs://bucket/prefix``, and references to
        them in the results table; they pass through the worker, a few at a time (templated)
    :param min_success_ratio: fail, after landing, when fewer of the rows succeeded; 0 to 1 (templated)
    :param max_invalid_ratio: fail, after landing, when more of the answers do not fit the schema; 0 to 1
        (templated)
    :param report_uri: also write a page of HTML about the job there, an object ``gs://bucket/name.html`` or a
        folder ``gs://bucket/folder/`` (templated)
    :param usage_view: make a view, ``results_table`` with ``_usage`` behind it, of cost by day, DAG, model
        and labels
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *_SUBMIT_FIELDS,
        "staging_uri",
        "results_table",
        "error_table",
        "media_uri_prefix",
        "min_success_ratio",
        "max_invalid_ratio",
        "report_uri",
    )
    custom_operator_name = "@task.gemini_batch"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        model: str,
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        staging_uri: str | None = None,
        output_uri: str | None = None,
        template: Any = None,
        system_instruction: str | None = None,
        generation_config: Any = None,
        response_schema: Any = None,
        safety_settings: Sequence[Any] | None = None,
        tools: Sequence[Any] | None = None,
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
        wait_for_completion: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            model=model,
            input_uri=(),
            output_uri=output_uri,
            wait_for_completion=wait_for_completion,
            **kwargs,
        )
        self.staging_uri = staging_uri
        self.template = template
        self.system_instruction = system_instruction
        self.generation_config = generation_config
        self.response_schema = response_schema
        self.safety_settings = safety_settings
        self.tools = tools
        self.results_table = results_table
        self.error_table = error_table
        self.write_mode = write_mode
        self.include_request = include_request
        self.include_response = include_response
        self.media_uri_prefix = media_uri_prefix
        self.min_success_ratio = min_success_ratio
        self.max_invalid_ratio = max_invalid_ratio
        self.report_uri = report_uri
        self.usage_view = usage_view
        self._has_begun = False

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render, once: the arguments hold what upstream tasks gave by then, which is no template.

        ``dag.test()`` of Airflow 2.11 resumes a deferred task with the object that was rendered before.
        """
        if not self._has_begun:
            super().render_template_fields(context, jinja_env)

    def execute(self, context: Context) -> Any:
        """Build, upload, submit; wait in the triggerer unless told otherwise; land."""
        self._has_begun = True
        with fail_without_retry():
            if self.results_table and not self.wait_for_completion:
                raise InvalidParameterError(
                    "wait_for_completion",
                    False,
                    "answers can be landed only when the job has ended; leave it out",
                )
            if self.results_table:
                landing_values(self, self.results_table, connect(self))  # Before anything is paid.
            self.output_uri = self.output_uri or f"{staging_folder(self.staging_uri)}/results"
        self.input_uri = store_requests(self, context, max_objects=1).uris
        return self._land(GeminiBatchSubmitOperator.execute(self, context), context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """The job has ended: land."""
        return self._land(super().execute_complete(context, event), context)

    def _land(self, job_name: str, context: Context) -> Any:
        if not self.results_table:
            return job_name
        return land_results(self, context, job_name=job_name, destination_table=self.results_table)


def gemini_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function that returns or yields prompts into a batch job.

    :param python_callable: the function
    :param kwargs: the parameters of :class:`GeminiBatchDecoratedOperator`
    """
    # Airflow would take a function annotated as returning a dict for one with several outputs.
    return task_decorator_factory(
        python_callable,
        multiple_outputs=False,
        decorated_operator_class=GeminiBatchDecoratedOperator,
        **kwargs,
    )
