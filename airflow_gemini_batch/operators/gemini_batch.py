"""The operators: submit a batch job, land its results."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_gemini_batch.exceptions import CostLimitError, JobConflictError
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT, utc_now
from airflow_gemini_batch.jobs.spec import check_region
from airflow_gemini_batch.tasks.airflow_versions import TaskState, run_identity
from airflow_gemini_batch.tasks.before_create import budget_of, check_input
from airflow_gemini_batch.tasks.land import land_results
from airflow_gemini_batch.tasks.links import BatchJobLink
from airflow_gemini_batch.tasks.wait import (
    cancel_unwanted,
    choice,
    connect,
    ended_well,
    fail_without_retry,
    job_of_event,
    seconds_of,
    trigger_for,
    wait_here,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.decision import Policy
    from airflow_gemini_batch.jobs.spec import JobSpec


class GeminiBatchSubmitOperator(BaseOperator):
    """Submits a Gemini batch job to Vertex AI, once, and returns its full resource name.

    A retry, a cleared task or a restarted worker finds the job that this task run has already made, on the
    server, and attaches to it. Only a job that ended FAILED, CANCELLED or EXPIRED is followed by a new one.

    :param model: a model id such as ``gemini-2.5-flash``, ``publishers/google/models/ID``, or the resource
        name of a tuned model (templated)
    :param input_uri: JSONL in Cloud Storage, ``gs://…`` (one or several, ``*`` allowed), or one BigQuery
        table with a ``request`` column, ``bq://project.dataset.table`` (templated)
    :param output_uri: ``gs://bucket/prefix`` or ``bq://project.dataset.table`` (templated)
    :param location: region such as ``us-central1``, or ``global``; default ``GOOGLE_CLOUD_LOCATION``
        (templated)
    :param project_id: default the connection's project, then ``GOOGLE_CLOUD_PROJECT`` (templated)
    :param display_name: what the console shows, default ``dag_id.task_id``; the mark of this run is put
        behind it (templated)
    :param labels: labels of the job, for billing reports (templated)
    :param on_changed_input: this run has a job under way and the request has changed since:
        ``cancel_and_replace`` it, or ``fail``
    :param force_new: pay again on purpose: a job of this run that has succeeded is not used again
    :param preflight: before a job is created, read the input and refuse what would fail the job; see
        docs/validate.md. Default: files of up to 64 MB, no tables
    :param max_cost_usd: before a job is created, estimate what it will cost, and fail when that may be more;
        see docs/cost.md (templated)
    :param prices: negotiated prices, in USD per million tokens of the batch, such as
        ``{"input": 0.12, "output": 1.0}``; default those of the list (templated)
    :param estimated_output_tokens: what to reckon with for an answer, thoughts included; default what each
        request allows
    :param wait_for_completion: also wait until the job has ended; see :class:`GeminiBatchJobSensor`
    :param cancel_on_kill: cancel the job when a user marks this task, or clears it, while it runs or waits
        in the triggerer (there, Airflow 3.3 on); a worker or triggerer that restarts cancels nothing
    :param cancel_on_timeout: cancel the job when ``wait_timeout`` has passed
    :param deferrable: wait in the triggerer, not on a worker
    :param poll_interval: longest wait between two looks, in seconds
    :param wait_timeout: how long to wait in all, in seconds or as a timedelta
    :param gcp_conn_id: Google Cloud connection (templated)
    :param impersonation_chain: service account to impersonate, or the chain to it (templated)
    """

    template_fields: Sequence[str] = (
        "model",
        "input_uri",
        "output_uri",
        "location",
        "project_id",
        "display_name",
        "labels",
        "max_cost_usd",
        "prices",
        "gcp_conn_id",
        "impersonation_chain",
    )
    operator_extra_links = (BatchJobLink(),)
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        model: str,
        input_uri: str | Sequence[str],
        output_uri: str,
        location: str | None = None,
        project_id: str | None = None,
        display_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        on_changed_input: str = "cancel_and_replace",
        force_new: bool = False,
        preflight: bool | None = None,
        max_cost_usd: float | str | None = None,
        prices: Mapping[str, Any] | BatchPrices | None = None,
        estimated_output_tokens: int | None = None,
        wait_for_completion: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        deferrable: bool = True,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        wait_timeout: timedelta | float = DEFAULT_TIMEOUT,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.input_uri = input_uri
        self.output_uri = output_uri
        self.location = location
        self.project_id = project_id
        self.display_name = display_name
        self.labels = labels
        self.on_changed_input = on_changed_input
        self.force_new = force_new
        self.preflight = preflight
        self.max_cost_usd = max_cost_usd
        self.prices = prices
        self.estimated_output_tokens = estimated_output_tokens
        self.wait_for_completion = wait_for_completion
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.wait_timeout = wait_timeout
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self._to_cancel: Callable[[], None] | None = None

    def execute(self, context: Context) -> str:
        """Submit or attach; wait if asked to."""
        from airflow_gemini_batch.jobs.submission import submit

        with fail_without_retry(JobConflictError, CostLimitError):
            hook = connect(self)
            spec = self._spec(hook, context)
            policy, budget = self._policy(), budget_of(self)
            facts = hook.inspect_input(spec)
            check_region(spec, facts.location)
            spec = replace(spec, input_content=facts.content)
            run, task_state = run_identity(context), TaskState(context)
            self._to_cancel = partial(cancel_unwanted, self, context["ti"], hook, spec, run)
            submission = submit(
                hook,
                spec,
                run,
                policy,
                remembered=task_state.read(),
                is_retry=context["ti"].try_number > 1,
                before_create=partial(check_input, self, hook, spec, budget),
            )
        job = submission.job
        task_state.write(job.name)
        BatchJobLink.persist(context, job.name)
        verb = "Created" if submission.created else "Attached to"
        self.log.info("%s batch job %s (%s): %s", verb, job.name, job.state.name, submission.reason)
        if self.wait_for_completion:
            self._wait(hook, job)
        return str(job.name)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Take the trigger's event, read the job once more and finish."""
        with fail_without_retry():
            job = job_of_event(self, connect(self), event)
        return str(self._finish(job))

    def on_kill(self) -> None:
        """The running task is told to end: cancel its job if a user wanted that, not if a worker stops."""
        if self._to_cancel:
            self._to_cancel()

    def _wait(self, hook: GeminiBatchHook, job: BatchJob) -> None:
        deadline = utc_now() + seconds_of(self.wait_timeout)
        if job.state.is_terminal:
            self._finish(job)
        elif self.deferrable:
            self.defer(trigger=trigger_for(self, job.name, deadline), method_name="execute_complete")
        else:
            with fail_without_retry():
                job = wait_here(self, hook, job.name, deadline)
            self._finish(job)

    def _finish(self, job: BatchJob) -> JobName:
        ended_well(job)
        self.log.info("Batch job %s ended %s: %s", job.name.job_id, job.state.name, job.stats)
        return job.name

    def _policy(self) -> Policy:
        from airflow_gemini_batch.jobs.decision import OnChangedInput, Policy

        on_changed_input = choice(OnChangedInput, "on_changed_input", self.on_changed_input)
        return Policy(on_changed_input=on_changed_input, reuse_succeeded=not self.force_new)

    def _spec(self, hook: GeminiBatchHook, context: Context) -> JobSpec:
        from airflow_gemini_batch.jobs.spec import job_spec

        ti = context["ti"]
        return job_spec(
            project=hook.resolve_project(self.project_id),
            location=self.location or os.environ.get("GOOGLE_CLOUD_LOCATION"),
            model=self.model,
            input_uri=self.input_uri,
            output_uri=self.output_uri,
            display_name=self.display_name or f"{ti.dag_id}.{ti.task_id}",
            labels=self.labels,
        )


class GeminiBatchResultsToBigQueryOperator(BaseOperator):
    """Lands the results of a batch job in BigQuery as typed rows, and returns a manifest.

    Works from the job's name alone, for output in Cloud Storage and in BigQuery. BigQuery does the work: no
    row passes through the worker. Landing twice is landing once: the rows of a job replace the rows of the
    same job. Rows that did not succeed go to the error table.

    The manifest: job, tables, rows by bucket, tokens, cost; see docs/results.md.

    :param job_name: what :class:`GeminiBatchSubmitOperator` returned (templated)
    :param destination_table: ``project.dataset.table``, or ``dataset.table`` in the connection's project;
        made if absent, in a dataset that exists (templated)
    :param error_table: default ``destination_table`` with ``_errors`` behind it (templated)
    :param response_schema: pydantic model or JSON Schema of an answer; its properties become columns. By
        default the one that all requests of the job ask for; ``False`` for no typed columns
    :param write_mode: ``append`` to what other jobs have landed, ``merge`` with it by key, or ``truncate``
        the table first (templated)
    :param include_request: store requests in the results table; the error table has them in any case
    :param include_response: store responses in the results table
    :param media_uri_prefix: store images that answers hold there, ``gs://bucket/prefix``, and references to
        them in the results table; they pass through the worker, a few at a time (templated)
    :param min_success_ratio: fail, after landing, when fewer of the rows succeeded; 0 to 1 (templated)
    :param max_invalid_ratio: fail, after landing, when more of the answers do not fit the schema; 0 to 1
        (templated)
    :param report_uri: also write a page of HTML about the job there, an object ``gs://bucket/name.html`` or a
        folder ``gs://bucket/folder/`` (templated)
    :param prices: negotiated prices, in USD per million tokens of the batch, such as
        ``{"input": 0.12, "output": 1.0}``; default those of the list (templated)
    :param usage_view: make a view, ``destination_table`` with ``_usage`` behind it, of cost by day, DAG,
        model and labels
    :param project_id: project that runs the BigQuery jobs; default the connection's (templated)
    :param gcp_conn_id: Google Cloud connection (templated)
    :param impersonation_chain: service account to impersonate, or the chain to it (templated)
    """

    template_fields: Sequence[str] = (
        "job_name",
        "destination_table",
        "error_table",
        "write_mode",
        "media_uri_prefix",
        "min_success_ratio",
        "max_invalid_ratio",
        "report_uri",
        "prices",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
    )
    operator_extra_links = (BatchJobLink(),)
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        job_name: str,
        destination_table: str,
        error_table: str | None = None,
        response_schema: Any = None,
        write_mode: str = "append",
        include_request: bool = True,
        include_response: bool = True,
        media_uri_prefix: str | None = None,
        min_success_ratio: float = 0.0,
        max_invalid_ratio: float = 1.0,
        report_uri: str | None = None,
        prices: Mapping[str, Any] | BatchPrices | None = None,
        usage_view: bool = True,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_name = job_name
        self.destination_table = destination_table
        self.error_table = error_table
        self.response_schema = response_schema
        self.write_mode = write_mode
        self.include_request = include_request
        self.include_response = include_response
        self.media_uri_prefix = media_uri_prefix
        self.min_success_ratio = min_success_ratio
        self.max_invalid_ratio = max_invalid_ratio
        self.report_uri = report_uri
        self.prices = prices
        self.usage_view = usage_view
        self.project_id = project_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def execute(self, context: Context) -> dict[str, Any]:
        """Land, and return the manifest."""
        return land_results(self, context, job_name=self.job_name, destination_table=self.destination_table)
