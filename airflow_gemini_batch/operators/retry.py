"""The operator that resubmits failed requests."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_gemini_batch.batch_job import JobName, JobState
from airflow_gemini_batch.exceptions import (
    CostLimitError,
    DatasetNotFoundError,
    JobEndedError,
    TableMismatchError,
)
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from airflow_gemini_batch.jobs.quota import DEFAULT_SUBMIT_TIMEOUT
from airflow_gemini_batch.jobs.rounds import End, Round, explain
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.tasks.airflow_versions import policy
from airflow_gemini_batch.tasks.assets import declare_table, record_landing
from airflow_gemini_batch.tasks.landing_options import LandingOptions, check_tables_when_parsed
from airflow_gemini_batch.tasks.landing_wait import is_of_landing, lands_in_triggerer
from airflow_gemini_batch.tasks.links import LANDING_LINKS, BatchJobLink
from airflow_gemini_batch.tasks.observed import Observed, planned_landing
from airflow_gemini_batch.tasks.options import ConnectionOptions, KeyOptions, SubmitOptions, WaitOptions
from airflow_gemini_batch.tasks.parameters import documented, store
from airflow_gemini_batch.tasks.retry_options import RetryOptions, RetryTask
from airflow_gemini_batch.tasks.retry_rounds import Series
from airflow_gemini_batch.tasks.stopping import JobsToCancel, forgets_jobs_at_the_end
from airflow_gemini_batch.tasks.wait import (
    WaitsInTriggerer,
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

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.lineage.facts import Facts
    from airflow_gemini_batch.tasks.retry_state import Plan


@documented(RetryOptions, KeyOptions, SubmitOptions, WaitOptions, LandingOptions, ConnectionOptions)
class GeminiBatchRetryFailedOperator(Observed, WaitsInTriggerer, BaseOperator):
    """Resubmits failed requests that may succeed, in rounds of one batch job each, and lands the results.

    It resubmits the rows that the error table marks ``retryable``: quota errors, deadlines, server errors,
    and missing or malformed rows. The new input is built from the original requests inside BigQuery. The row
    of a resubmitted request replaces the row that failed. Quality gates are checked against all rows after
    the last round, see docs/retry.md.

    Before a round is submitted, its requests are claimed in BigQuery. What another task run has claimed is
    not resubmitted, and not waited for.

    Returns ``rounds`` (each with ``job_name``, ``asked``, ``succeeded``, ``cost_usd``, ``search_queries``),
    ``succeeded``, ``left``, ``in_other_runs`` (how many of those other task runs have claimed), ``ended``,
    ``counts`` (all rows by status, after the last round) and ``cost_usd``.

    :param max_cost_usd: limit in US dollars for all rounds together; a round that might exceed what is left
        is not started (templated)
    :param preflight: check the input of each round before its job is created; see docs/validate.md
    :param labels: labels of the new batch jobs; default: those that the original jobs share (templated)
    :param wait_timeout: how long to wait for each job, in seconds or as a ``timedelta``; 96 hours by default
    :param write_mode: ``append`` or ``merge``, as the results were landed (templated)
    """

    template_fields: Sequence[str] = tuple(
        dict.fromkeys(
            (
                *RetryOptions.templated,
                *KeyOptions.templated,
                *SubmitOptions.templated,
                *LandingOptions.templated,
                *ConnectionOptions.templated,
            )
        )
    )
    operator_extra_links = LANDING_LINKS
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        results_table: str,
        job_name: str | None = None,
        max_rounds: int = 2,
        model: str | None = None,
        output_uri: str | None = None,
        staging_uri: str | None = None,
        key_field: str = KEY_FIELD,
        key_label: bool = False,
        labels: Mapping[str, str] | None = None,
        preflight: bool | None = None,
        max_cost_usd: float | str | None = None,
        prices: Mapping[str, Any] | NegotiatedPrices | None = None,
        estimated_output_tokens: int | None = None,
        submit_timeout: timedelta | float = DEFAULT_SUBMIT_TIMEOUT,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        deferrable: bool = True,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        wait_timeout: timedelta | float = DEFAULT_TIMEOUT,
        error_table: str | None = None,
        response_schema: Any = None,
        write_mode: str = "append",
        include_request: bool = True,
        include_response: bool = True,
        media_uri_prefix: str | None = None,
        min_success_ratio: float = 0.0,
        max_invalid_ratio: float = 1.0,
        report_uri: str | None = None,
        usage_view: bool = True,
        emit_asset: bool = True,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(**kwargs)
        store(
            self,
            shared,
            RetryOptions,
            KeyOptions,
            SubmitOptions,
            WaitOptions,
            LandingOptions,
            ConnectionOptions,
        )
        self._to_cancel = JobsToCancel()
        check_tables_when_parsed(results_table, error_table, "results_table")
        declare_table(self, results_table, project_id)

    @forgets_jobs_at_the_end
    def execute(self, context: Context) -> dict[str, Any]:
        """Find the rounds that earlier tries have started, then continue."""
        return self._resume(context, connect(self))

    def _resume(self, context: Context, hook: GeminiBatchHook) -> dict[str, Any]:
        with self._failures():
            begun = Series(self._task(), context, hook).begun()
            is_asked = bool(begun) and policy(context).is_asked_since(begun[-1])
            before = frozenset(str(job.name) for job in begun if is_asked)
            series = Series(self._task(), context, hook, before=before)
        if begun:
            found = counted(len(begun), "round")
            self.log.info("Found %s of earlier tries of this task. Nothing of it is paid again.", found)
        return self._go_on(self._land_begun(series, begun, context), context)

    def _land_begun(self, series: Series, begun: Sequence[BatchJob], context: Context) -> Series:
        """Land rounds that earlier tries have started."""
        hook = series.hook
        for number, job in enumerate(begun, 1):
            # Somebody has gone on after a round that another one followed.
            is_followed = str(job.name) in series.before or number < len(begun)
            if not job.state.is_terminal:
                self._to_cancel.expect(lambda: hook, WaitOptions.of(self), context["ti"])
                self._to_cancel.found(job.name)
            series = self._landed(
                series,
                self._wait(series, job),
                goes_on=job.state.is_terminal and is_followed,
                then=[str(each.name) for each in begun[number:]],
            )
        return series

    @forgets_jobs_at_the_end
    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        rounds: Sequence[Mapping[str, Any]] | None = None,
        before: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Resume when the job of a round has ended, or BigQuery is done with what it had begun to land of it.

        Then land the round and continue.

        :param rounds: rounds that ended before this one
        :param before: names of the jobs of those that ended before a person cleared the task
        """
        hook = connect(self)
        if event and is_of_landing(event):
            return self._resume_landing(context, hook, event)
        with self._failures():
            job = job_of_event(hook, WaitOptions.of(self), event)
        if rounds is None:
            # ``dag.test()`` keeps only the event.
            return self._resume(context, hook)
        with self._failures():
            done = tuple(Round(**each) for each in rounds)
            series = Series(self._task(), context, hook, done, frozenset(before))
        return self._go_on(self._landed(series, job), context)

    def _resume_landing(
        self, context: Context, hook: GeminiBatchHook, event: Mapping[str, Any]
    ) -> dict[str, Any]:
        resume = event["resume"]
        with self._failures():
            job, *then = (hook.get_job(JobName.parse(name)) for name in resume["jobs"])
            done = tuple(Round(**each) for each in resume["rounds"])
            series = Series(self._task(), context, hook, done, frozenset(resume["before"]))
        series = self._landed(series, job, goes_on=resume["goes_on"], then=resume["jobs"][1:], event=event)
        return self._go_on(self._land_begun(series, then, context), context)

    def on_kill(self) -> None:
        """Cancel the job if this task will not run again; see docs/stopping.md."""
        self._to_cancel.on_kill()

    def _go_on(self, series: Series, context: Context) -> dict[str, Any]:
        while True:
            with self._failures():
                plan = series.next_round()
                begun = plan if isinstance(plan, End) else self._begin(series, plan, context)
            if isinstance(begun, End):
                return self._end(series, begun, context)
            series = series.after()  # It has claimed requests, or others have.
            if begun:
                with self._failures():
                    series.record(begun)
                series = self._landed(series, self._wait(series, begun))

    def _end(self, series: Series, end: End, context: Context) -> dict[str, Any]:
        with self._failures():
            found = series.found(end)
        level = logging.WARNING if found.left else logging.INFO
        for line in explain(end, found.rounds, found.left, found.failed, found.rows):
            self.log.log(level, "%s", line)
        if others := series.explain_other_runs():
            self.log.info("Not resubmitted here, because other task runs do it or have done it: %s", others)
        with self._failures():
            manifest = series.end(found)
        record_landing(self, context, manifest)
        return manifest

    def _begin(self, series: Series, plan: Plan, context: Context) -> BatchJob | End | None:
        """Start the next round, or attach to it; ``None`` when other task runs have claimed its requests."""
        from airflow_gemini_batch.jobs.lookup import cancel_run
        from airflow_gemini_batch.jobs.submission import submit

        built = series.build(plan)
        if built is None:
            return None
        spec = series.spec(plan, built)
        run = series.identity()
        find = partial(cancel_run, series.hook, spec, run)
        self._to_cancel.expect(lambda: series.hook, WaitOptions.of(self), context["ti"], find)
        try:
            submission = submit(
                series.hook,
                spec,
                run,
                policy(context),
                before_create=partial(series.before_create, spec),
                submit_timeout=SubmitOptions.of(self).patience(),
                is_stopped=self._to_cancel.is_stopped,
            )
        except CostLimitError as error:
            self.log.warning("%s", error)
            return series.stop(error)
        job = submission.job
        self._to_cancel.found(job.name)
        self._saw_submission(job, spec.model, created=submission.created)
        BatchJobLink.persist(context, job.name)
        self.log.info(
            "Round %s: %s %s in job %s (%s): %s",
            series.number,
            "resubmitted" if submission.created else "found",
            counted(built.rows, "failed request"),
            job.name.job_id,
            job.state.name,
            submission.reason,
        )
        self.log.info("%s", job.name)
        return job

    def _wait(self, series: Series, job: BatchJob) -> BatchJob:
        if job.state.is_terminal:
            return job
        options = WaitOptions.of(self)
        if options.deferrable:
            rounds = [asdict(each) for each in series.rounds]
            wait_in_triggerer(self, options, job.name, {"rounds": rounds, "before": sorted(series.before)})
        with self._failures():
            return wait_here(series.hook, options, job.name)

    def _landed(
        self,
        series: Series,
        job: BatchJob,
        *,
        goes_on: bool = False,
        then: Sequence[str] = (),
        event: Mapping[str, Any] | None = None,
    ) -> Series:
        """Land a round. Rows that were completed before a job failed are charged, so they count.

        :param goes_on: continue even if the job was cancelled
        :param then: names of the jobs of rounds that are landed after it
        :param event: with which the task resumes, if it was deferred while it landed the round
        """
        resume = {
            "jobs": [str(job.name), *then],
            "goes_on": goes_on,
            "rounds": [asdict(each) for each in series.rounds],
            "before": sorted(series.before),
        }
        with self._failures():
            if not event:
                self._saw_end(job)
                ended_well(job)
            with lands_in_triggerer(self, event, **resume) as wait:
                series = series.land(job, wait)
        self.log.info("Round %s: %s", len(series.rounds), series.rounds[-1])
        if job.state is JobState.CANCELLED and not goes_on:
            self._stop(series, job)
        return series

    def _stop(self, series: Series, job: BatchJob) -> None:
        """Fail without a retry after a job that was cancelled, if a further round would be the next."""
        if not (left := series.left()):
            return
        with self._failures():
            raise JobEndedError(
                job,
                f"Batch job {job.name} was cancelled. Its completed rows are charged and landed; "
                f"{counted(left, 'failed request')} may succeed if resubmitted. To do that, clear this task: "
                "rounds that are done are not paid again.",
            )

    def _planned(self) -> Facts:
        options = RetryOptions.of(self)
        given = LandingOptions.of(self).error_table
        tables = planned_landing(options.results_table, given, options.project_id)
        return tables.and_data(inputs=tables.outputs)

    def _task(self) -> RetryTask:
        WaitOptions.of(self)  # Checked before anything is created.
        KeyOptions.of(self).parsed()
        return RetryTask(RetryOptions.of(self), SubmitOptions.of(self), LandingOptions.of(self))

    @staticmethod
    def _failures() -> Any:
        return fail_without_retry(DatasetNotFoundError, TableMismatchError)
