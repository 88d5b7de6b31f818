"""The operators that submit a batch job and land its results."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_gemini_batch.exceptions import (
    CostLimitError,
    DatasetNotFoundError,
    JobConflictError,
    JobEndedError,
    LocationMismatchError,
    TableMismatchError,
)
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from airflow_gemini_batch.jobs.quota import DEFAULT_SUBMIT_TIMEOUT
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.settings import LOCATION
from airflow_gemini_batch.tasks.airflow_versions import TaskState, policy, run_identity
from airflow_gemini_batch.tasks.assets import declare_table
from airflow_gemini_batch.tasks.land import check_landing, land_results
from airflow_gemini_batch.tasks.landing_options import LandingOptions, check_tables_when_parsed
from airflow_gemini_batch.tasks.links import JOB_LINKS, LANDING_LINKS, BatchJobLink, OutputLink
from airflow_gemini_batch.tasks.observed import Observed, planned_landing
from airflow_gemini_batch.tasks.options import (
    ConnectionOptions,
    DeferOptions,
    EndOptions,
    KeyOptions,
    SubmitOptions,
    WaitOptions,
)
from airflow_gemini_batch.tasks.parameters import (
    check_flag,
    choice,
    documented,
    is_known,
    refused_when_parsed,
    store,
)
from airflow_gemini_batch.tasks.stopping import JobsToCancel, forgets_jobs_at_the_end
from airflow_gemini_batch.tasks.wait import (
    WaitsInTriggerer,
    check_job_name_when_parsed,
    connect,
    ended_well,
    fail_without_retry,
    job_of_event,
    wait_here,
    wait_in_triggerer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.cost.budget import Budget
    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.decision import OnChangedInput, Policy
    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.lineage.facts import Facts
    from airflow_gemini_batch.requests.key_field import KeyField
    from airflow_gemini_batch.tasks.land import Landing


@documented(SubmitOptions, KeyOptions, WaitOptions, EndOptions, ConnectionOptions)
class GeminiBatchSubmitOperator(Observed, WaitsInTriggerer, BaseOperator):
    """Submits a Gemini batch job to Agent Platform (Vertex AI) and returns its full resource name.

    Submission is idempotent: a retry, a cleared task or a restarted worker looks up the job that this task
    run has already created and attaches to it, also if it ended as FAILED, CANCELLED or EXPIRED with
    completed rows, since those are charged. A new job is created only if nothing of the earlier one is
    charged.

    :param model: model ID such as ``gemini-3.5-flash``, ``publishers/google/models/ID``, or the resource name
        of a tuned model (templated)
    :param input_uri: JSONL in Cloud Storage, one or more ``gs://…`` URIs, which may have wildcards, or one
        BigQuery table with a ``request`` column, ``bq://project.dataset.table`` (templated)
    :param output_uri: where the service writes its output: ``gs://bucket/prefix``,
        ``bq://project.dataset.table`` or ``bq://project.dataset`` (templated)
    :param location: ``global``, ``us``, ``eu`` or a region, where the model is offered; default
        ``[gemini_batch] location`` (templated)
    :param project_id: project of the batch job; default: the connection's project, then
        ``[gemini_batch] project_id`` (templated)
    :param display_name: name shown in the console; default ``dag_id.task_id``. The identity of the task run
        is appended (templated)
    :param on_changed_input: what to do when the job of this task run is still running but its input has
        changed: ``cancel_and_replace`` or ``fail``
    :param force_new: any text. A text that this task run has not used yet creates a new job, once, and you
        pay for all rows again. Retries and clears with the same text attach to that job. ``True`` is a text
        like any other (templated)
    :param results_table: BigQuery table in which another task will land the results. No job is created if
        the dataset does not exist or cannot read the output, or if the table has other columns (templated)
    :param wait_for_completion: also wait until the job has ended; see :class:`GeminiBatchJobSensor`
    """

    template_fields: Sequence[str] = (
        "model",
        "input_uri",
        "output_uri",
        "location",
        "project_id",
        "display_name",
        "force_new",
        "results_table",
        *SubmitOptions.templated,
        *KeyOptions.templated,
        *ConnectionOptions.templated,
    )
    operator_extra_links = JOB_LINKS
    ui_color = "#d2e3fc"
    _checked_when_parsed: ClassVar[tuple[str, ...]] = (
        "model",
        "input_uri",
        "output_uri",
        "location",
        "display_name",
    )

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
        force_new: str | bool | None = None,
        preflight: bool | None = None,
        max_cost_usd: float | str | None = None,
        prices: Mapping[str, Any] | NegotiatedPrices | None = None,
        estimated_output_tokens: int | None = None,
        submit_timeout: timedelta | float = DEFAULT_SUBMIT_TIMEOUT,
        key_field: str = KEY_FIELD,
        results_table: str | None = None,
        wait_for_completion: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        deferrable: bool = True,
        on_incomplete: str = "fail",
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        wait_timeout: timedelta | float = DEFAULT_TIMEOUT,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(**kwargs)
        store(self, shared, SubmitOptions, KeyOptions, WaitOptions, EndOptions, ConnectionOptions)
        self.model = model
        self.input_uri = input_uri
        self.output_uri = output_uri
        self.location = location
        self.project_id = project_id
        self.display_name = display_name
        self.on_changed_input = on_changed_input
        self.force_new = force_new
        self.results_table = results_table
        self.wait_for_completion = wait_for_completion
        self._to_cancel = JobsToCancel()
        self._check_when_parsed()

    @forgets_jobs_at_the_end
    def execute(self, context: Context) -> str:
        """Submit a job or attach to the existing one; wait if requested."""
        from airflow_gemini_batch.gcp.table_name import check_region
        from airflow_gemini_batch.jobs.lookup import cancel_run
        from airflow_gemini_batch.jobs.submission import submit

        with fail_without_retry(
            *(JobConflictError, JobEndedError, CostLimitError),
            *(DatasetNotFoundError, LocationMismatchError, TableMismatchError),
        ):
            options, waiting, _ = SubmitOptions.of(self), WaitOptions.of(self), EndOptions.of(self)
            hook = connect(self)
            spec = self._spec(hook, context)
            allowed, budget = self._policy(context), options.budget()
            key_field = KeyOptions.of(self).parsed()
            facts = hook.inspect_input(spec)
            check_region(str(spec.input_table), facts.location, spec.location)
            spec = replace(spec, input=facts)
            run, task_state = run_identity(context, self._token()), TaskState(context)
            find = partial(cancel_run, hook, spec, run)
            self._to_cancel.expect(lambda: hook, waiting, context["ti"], find)
            submission = submit(
                hook,
                spec,
                run,
                allowed,
                remembered=task_state.read(),
                checksum=partial(hook.checksum_input, spec),
                before_create=partial(self._before_create, options, hook, spec, budget, key_field),
                submit_timeout=options.patience(),
                is_stopped=self._to_cancel.is_stopped,
            )
        job = submission.job
        self._to_cancel.found(job.name)
        task_state.write(job.name)
        self._saw_submission(job, spec.model, created=submission.created)
        verb = "Created" if submission.created else "Attached to"
        self.log.info("%s batch job %s (%s): %s", verb, job.name.job_id, job.state.name, submission.reason)
        self.log.info("%s", job.name)
        OutputLink.persist(context, job, spec.output_uri)
        return self._end_of(job, hook, context)

    def _before_create(
        self,
        options: SubmitOptions,
        hook: GeminiBatchHook,
        spec: JobSpec,
        budget: Budget,
        key_field: KeyField,
    ) -> dict[str, str]:
        """Refuse a job that would fail, cost too much, or have results that cannot be landed."""
        from airflow_gemini_batch.tasks.before_create import check_destination, check_job

        if landing := self._landing(hook):
            check_destination(landing, hook, spec)
        return check_job(options, hook, spec, budget, key_field)

    def _landing(self, hook: GeminiBatchHook) -> Landing | None:
        """How the results will be landed, if that is known."""
        if not self.results_table:
            return None
        table, options = self.results_table, LandingOptions()
        return check_landing(options, hook, table, self.project_id, parameter="results_table")

    def _end_of(self, job: BatchJob, hook: GeminiBatchHook, context: Context) -> str:
        """Wait for a job if requested, and return its name."""
        waiting = WaitOptions.of(self)
        BatchJobLink.persist(context, job.name)
        if self.wait_for_completion:
            self._wait(hook, waiting, job)
        elif EndOptions.given(vars(self)):
            self.log.warning(
                "on_incomplete has no effect on this task, since it does not wait for the job. Set it on the "
                "sensor that waits, or set wait_for_completion=True here."
            )
        return str(job.name)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Resume after the trigger has fired: read the job again and finish."""
        with fail_without_retry():
            return str(self._finish(job_of_event(connect(self), WaitOptions.of(self), event)))

    def on_kill(self) -> None:
        """Cancel the job if this task will not run again; see docs/stopping.md."""
        self._to_cancel.on_kill()

    def _wait(self, hook: GeminiBatchHook, options: WaitOptions, job: BatchJob) -> None:
        if job.state.is_terminal:
            with fail_without_retry():
                self._finish(job)
        elif options.deferrable:
            wait_in_triggerer(self, options, job.name)
        else:
            with fail_without_retry():
                self._finish(wait_here(hook, options, job.name))

    def _finish(self, job: BatchJob) -> JobName:
        self._saw_end(job)
        ended_well(job, EndOptions.of(self), self.task_id)
        self.log.info("Batch job %s ended as %s: %s", job.name.job_id, job.state.name, job.stats)
        return job.name

    def _planned(self) -> Facts:
        from airflow_gemini_batch.lineage.datasets import of_uris
        from airflow_gemini_batch.lineage.facts import Facts

        inputs = [self.input_uri] if isinstance(self.input_uri, str) else self.input_uri
        return Facts(of_uris(inputs), of_uris([self.output_uri]))

    def _check_when_parsed(self) -> None:
        """Check what is known when the DAG is parsed; :meth:`_spec` checks all of it."""
        from airflow_gemini_batch.jobs.spec import check_known_values

        values = {name: getattr(self, name) for name in self._checked_when_parsed}
        # None stands for what the environment says when the task runs.
        known = {name: each for name, each in values.items() if each is not None and is_known(each)}
        if self.results_table:
            check_tables_when_parsed(self.results_table, None, "results_table")
        with refused_when_parsed():
            check_known_values(known)
            check_flag("wait_for_completion", self.wait_for_completion)
            self._on_changed_input()

    def _policy(self, context: Context) -> Policy:
        return policy(context, on_changed_input=self._on_changed_input())

    def _on_changed_input(self) -> OnChangedInput:
        from airflow_gemini_batch.jobs.decision import OnChangedInput

        return choice(OnChangedInput, "on_changed_input", self.on_changed_input)

    def _location(self) -> str | None:
        return self.location or LOCATION.value()

    def _token(self) -> str:
        # A template renders to text, also when it means no.
        token = str(self.force_new or "").strip()
        return "" if token in ("False", "None") else token

    def _spec(self, hook: GeminiBatchHook, context: Context) -> JobSpec:
        from airflow_gemini_batch.jobs.spec import job_spec

        ti = context["ti"]
        return job_spec(
            project=hook.resolve_project(self.project_id),
            location=self._location(),
            model=self.model,
            input_uri=self.input_uri,
            output_uri=self.output_uri,
            display_name=self.display_name or f"{ti.dag_id}.{ti.task_id}",
            labels=SubmitOptions.of(self).labels,
        )


@documented(LandingOptions, KeyOptions, DeferOptions, ConnectionOptions)
class GeminiBatchResultsToBigQueryOperator(Observed, WaitsInTriggerer, BaseOperator):
    """Lands the results of a batch job in BigQuery as typed rows and returns a manifest.

    Needs only the job's name, for output in Cloud Storage and in BigQuery. BigQuery does the work; no row
    passes through the worker. Landing is idempotent: the rows of a job replace earlier rows of the same job.
    Rows that did not succeed also go to the error table. While BigQuery works for longer than a few seconds,
    the task waits in the triggerer and occupies no worker.

    The manifest has the job, the tables, rows by status, tokens and cost; see docs/results.md.

    :param job_name: full resource name of the job, as returned by :class:`GeminiBatchSubmitOperator`; or
        several, such as the output of a mapped one: they are landed by one script, which is faster and
        cheaper than a task for each (templated)
    :param destination_table: results table, ``project.dataset.table``, or ``dataset.table`` in the
        connection's project; created if it does not exist, the dataset must exist (templated)
    :param project_id: project that runs and pays for the BigQuery jobs; default: the connection's project,
        then ``[gemini_batch] project_id`` (templated)
    :param deferrable: wait for BigQuery in the triggerer instead of on a worker, if it takes longer than ten
        seconds
    """

    if_trigger_is_lost = (
        "The trigger of this task ended without reporting whether BigQuery is done ({}). BigQuery goes on "
        "with what it has begun. A retry, or clearing this task, finds it again."
    )
    template_fields: Sequence[str] = (
        "job_name",
        "destination_table",
        *LandingOptions.templated,
        *KeyOptions.templated,
        "project_id",
        *ConnectionOptions.templated,
    )
    operator_extra_links = LANDING_LINKS
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        job_name: str | Sequence[str],
        destination_table: str,
        key_field: str = KEY_FIELD,
        error_table: str | None = None,
        response_schema: Any = None,
        write_mode: str = "append",
        include_request: bool = True,
        include_response: bool = True,
        media_uri_prefix: str | None = None,
        min_success_ratio: float = 0.0,
        max_invalid_ratio: float = 1.0,
        report_uri: str | None = None,
        prices: Mapping[str, Any] | NegotiatedPrices | None = None,
        usage_view: bool = True,
        emit_asset: bool = True,
        deferrable: bool = True,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(**kwargs)
        store(self, shared, LandingOptions, KeyOptions, DeferOptions, ConnectionOptions)
        self.job_name = job_name
        self.destination_table = destination_table
        self.project_id = project_id
        check_job_name_when_parsed(job_name, several=True)
        check_tables_when_parsed(destination_table, error_table)
        declare_table(self, destination_table, project_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Land, and return the manifest."""
        return self._land(context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on when BigQuery is done with what it had begun."""
        return self._land(context, event)

    def _land(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        return land_results(
            self,
            context,
            job_name=self.job_name,
            destination_table=self.destination_table,
            project_id=self.project_id,
            event=event,
        )

    def _planned(self) -> Facts:
        error_table = LandingOptions.of(self).error_table
        return planned_landing(self.destination_table, error_table, self.project_id)
