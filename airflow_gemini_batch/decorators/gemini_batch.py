"""``@task.gemini_batch``: a function returns prompts; the task returns the manifest of their results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    DecoratedOperator,
    task_decorator_factory,
)

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from airflow_gemini_batch.jobs.quota import DEFAULT_SUBMIT_TIMEOUT
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.assets import declare_table
from airflow_gemini_batch.tasks.land import check_landing, land_results
from airflow_gemini_batch.tasks.landing_options import (
    LandingOptions,
    check_not_landed,
    check_tables_when_parsed,
)
from airflow_gemini_batch.tasks.landing_wait import is_of_landing
from airflow_gemini_batch.tasks.links import LANDING_LINKS
from airflow_gemini_batch.tasks.options import (
    ConnectionOptions,
    EndOptions,
    KeyOptions,
    RequestOptions,
    SubmitOptions,
    WaitOptions,
)
from airflow_gemini_batch.tasks.parameters import documented, refused_when_parsed, store
from airflow_gemini_batch.tasks.store_requests import PromptFunction, staging_folder, store_requests
from airflow_gemini_batch.tasks.wait import connect, fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.tasks.land import Landing

_SUBMIT_FIELDS = tuple(name for name in GeminiBatchSubmitOperator.template_fields if name != "input_uri")


@documented(
    RequestOptions, KeyOptions, SubmitOptions, WaitOptions, EndOptions, LandingOptions, ConnectionOptions
)
class GeminiBatchDecoratedOperator(DecoratedOperator, GeminiBatchSubmitOperator):
    """Builds requests from the prompts that a function returns, submits them, waits, and lands the results.

    Prompts are never rendered as templates; the function's arguments are, as usual in Airflow.

    :param python_callable: function that returns or yields prompts; see :func:`build_lines` for what a
        prompt may be
    :param op_args: positional arguments for the function (templated)
    :param op_kwargs: keyword arguments for the function (templated)
    :param model: model ID such as ``gemini-3.5-flash``, ``publishers/google/models/ID``, or the resource
        name of a tuned model (templated)
    :param staging_uri: ``gs://bucket/prefix`` for requests and output; default: the option
        ``[gemini_batch] staging_uri`` (templated)
    :param output_uri: where the service writes its output; default: ``results`` under ``staging_uri``
        (templated)
    :param location: ``global``, ``us``, ``eu`` or a region, where the model is offered; default
        ``[gemini_batch] location`` (templated)
    :param project_id: project of the batch job and of the BigQuery jobs; default: the connection's project,
        then ``[gemini_batch] project_id`` (templated)
    :param display_name: name shown in the console; default ``dag_id.task_id`` (templated)
    :param on_changed_input: what to do when the job of this task run is still running but its input has
        changed: ``cancel_and_replace`` or ``fail``
    :param force_new: any text. A text that this task run has not used yet creates a new job, once, and you
        pay for all rows again. Retries and clears with the same text attach to that job (templated)
    :param template: text with ``{field}`` placeholders, filled from each row that the function returns
    :param response_schema: pydantic model or JSON Schema of a response, requested from the model and used
        for typed columns; ``False`` disables both, and a schema that a prompt sets itself makes no columns
    :param results_table: BigQuery table for the results, ``project.dataset.table`` or ``dataset.table``. If
        set, the task lands the results and returns the manifest; otherwise it returns the job's name
        (templated)
    :param wait_for_completion: wait until the job has ended; required for ``results_table``
    """

    template_fields: Sequence[str] = tuple(
        dict.fromkeys(
            (
                *DecoratedOperator.template_fields,
                *_SUBMIT_FIELDS,
                "staging_uri",
                "results_table",
                *LandingOptions.templated,
            )
        )
    )
    custom_operator_name = "@task.gemini_batch"
    operator_extra_links = LANDING_LINKS
    # Input and output are made when the task runs, unless a user names the output.
    _checked_when_parsed = ("model", "location", "display_name")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        model: str,
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        staging_uri: str | None = None,
        output_uri: str | None = None,
        location: str | None = None,
        project_id: str | None = None,
        display_name: str | None = None,
        on_changed_input: str = "cancel_and_replace",
        force_new: str | bool | None = None,
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
        wait_for_completion: bool = True,
        cancel_on_kill: bool = True,
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
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            model=model,
            input_uri=(),
            output_uri=output_uri,
            location=location,
            project_id=project_id,
            display_name=display_name,
            on_changed_input=on_changed_input,
            force_new=force_new,
            results_table=results_table,
            wait_for_completion=wait_for_completion,
            **KeyOptions.pick(shared),
            **SubmitOptions.pick(shared),
            **WaitOptions.pick(shared),
            **EndOptions.pick(shared),
            **ConnectionOptions.pick(shared),
            **kwargs,
        )
        store(self, shared, RequestOptions, LandingOptions)
        self.staging_uri = staging_uri
        self.template = template
        self._has_begun = False
        if results_table:
            check_tables_when_parsed(results_table, error_table, "results_table")
            declare_table(self, results_table, project_id)
        with refused_when_parsed():
            if not results_table:
                check_not_landed(shared)
            elif not wait_for_completion:
                fix = "results can be landed only when the job has ended; leave it out"
                raise InvalidParameterError("wait_for_completion", wait_for_completion, fix)

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render templates once: afterwards the arguments hold values from upstream tasks.

        ``dag.test()`` of Airflow 2.11 resumes a deferred task with the object that was rendered before.
        """
        if not self._has_begun:
            super().render_template_fields(context, jinja_env)

    def execute(self, context: Context) -> Any:
        """Build, upload and submit; wait in the triggerer by default; land."""
        self._has_begun = True
        with fail_without_retry():
            hook = connect(self)
            self._landing(hook)  # Before anything is built.
            self.output_uri = self.output_uri or f"{staging_folder(self.staging_uri)}/results"
        try:
            stored = store_requests(
                PromptFunction(self.python_callable, self.op_args, self.op_kwargs, self.template),
                RequestOptions.of(self),
                KeyOptions.of(self),
                context,
                hook,
                staging_uri=self.staging_uri,
                project_id=self.project_id,
                model=self.model,
                max_objects=1,
            )
        except AirflowSkipException:
            # An earlier try may have taken the prompts from a queue, and paid for them.
            job = self._job_of_this_run(hook, context)
            if job is None:
                raise
            self.log.warning(
                "No prompts were returned. This run uses its batch job %s (%s); nothing is paid again.",
                job.name.job_id,
                job.state.name,
            )
            return self._land(self._end_of(job, hook, context), context)
        self.input_uri = stored.uris
        return self._land(GeminiBatchSubmitOperator.execute(self, context), context)

    def _job_of_this_run(self, hook: GeminiBatchHook, context: Context) -> BatchJob | None:
        from airflow_gemini_batch.jobs.lookup import find_reusable

        with fail_without_retry():
            location = self._location()
            project, run = hook.resolve_project(self.project_id), run_identity(context, self._token())
            job = find_reusable(hook, project, location, run.key) if location else None
        if job:
            self._to_cancel.expect(lambda: hook, WaitOptions.of(self), context["ti"])
            self._to_cancel.found(job.name)
        return job

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Land when the job has ended, or go on with it when BigQuery is done."""
        if event and is_of_landing(event):
            return self._land(event["resume"]["job_name"], context, event)
        return self._land(super().execute_complete(context, event), context)

    def _landing(self, hook: GeminiBatchHook) -> Landing | None:
        if not self.results_table:
            return None
        options, key_field = LandingOptions.of(self), KeyOptions.of(self).key_field
        table, project = self.results_table, self.project_id
        return check_landing(options, hook, table, project, key_field, "results_table")

    def _land(self, job_name: str, context: Context, event: dict[str, Any] | None = None) -> Any:
        if not self.results_table:
            return job_name
        return land_results(
            self,
            context,
            job_name=job_name,
            destination_table=self.results_table,
            project_id=self.project_id,
            event=event,
        )


def gemini_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function that returns or yields prompts into a batch job.

    :param python_callable: the function
    :param kwargs: the parameters of :class:`GeminiBatchDecoratedOperator`
    """
    # Airflow would infer several outputs from a function annotated as returning a dict.
    return task_decorator_factory(
        python_callable,
        multiple_outputs=False,
        decorated_operator_class=GeminiBatchDecoratedOperator,
        **kwargs,
    )
