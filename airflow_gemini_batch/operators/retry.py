"""The operator that asks failures again."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import (
    CostLimitError,
    DatasetNotFoundError,
    InvalidParameterError,
    TableMismatchError,
)
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT, utc_now
from airflow_gemini_batch.jobs.rounds import End, Round, ended, explain
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchResultsToBigQueryOperator
from airflow_gemini_batch.tasks.before_create import budget_of
from airflow_gemini_batch.tasks.links import BatchJobLink
from airflow_gemini_batch.tasks.retry_rounds import Series
from airflow_gemini_batch.tasks.wait import (
    cancel_unwanted,
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
    from datetime import datetime, timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

_LANDING_FIELDS = tuple(
    name for name in GeminiBatchResultsToBigQueryOperator.template_fields if name != "destination_table"
)


class GeminiBatchRetryFailedOperator(GeminiBatchResultsToBigQueryOperator):
    """Asks again what failed and may succeed, in rounds of one job each, and lands into the same tables.

    Quotas, deadlines, the service's own faults, rows that are missing or malformed: what the error table
    calls ``retryable``. The new input is made of the original requests inside BigQuery. A row that was asked
    again takes the place of the one that failed. Also takes what the results operator takes of
    ``response_schema``, ``error_table``, ``write_mode`` and the gates; those are held against all rows after
    the last round, see docs/retry.md.

    Returns ``rounds`` (``job_name``, ``resubmitted``, ``succeeded``, ``cost_usd`` of each), ``succeeded``,
    ``left``, ``ended``, ``counts`` (all rows by bucket, as they stand) and ``cost_usd``.

    :param results_table: where the results operator has landed the jobs (templated)
    :param job_name: the job whose failures are meant; default all in the table (templated)
    :param max_rounds: at most so many jobs
    :param max_cost_usd: begin no round that may cost more than what the earlier ones have left of it
        (templated)
    :param prices: negotiated prices, as for the submit operator, like the next two
    :param estimated_output_tokens: reckon with so many tokens an answer
    :param preflight: read the input of each round and refuse what would fail its job
    :param model: default that of the job whose failures are asked again (templated)
    :param output_uri: ``gs://bucket/prefix``, or a ``bq://`` table for each round to put its digest behind;
        default beside the output of the job (templated)
    :param staging_uri: ``gs://bucket/prefix`` for requests, where jobs cannot read tables of the dataset;
        default the output (templated)
    :param labels: labels of the new jobs; default those of that job (templated)
    :param cancel_on_kill: cancel the job when a user marks or clears this task
    :param cancel_on_timeout: cancel a job when ``wait_timeout`` has passed
    :param deferrable: wait in the triggerer, not on a worker
    :param poll_interval: longest wait between two looks, in seconds
    :param wait_timeout: how long to wait for each job, in seconds or as a timedelta
    """

    template_fields: Sequence[str] = (
        *_LANDING_FIELDS,
        "results_table",
        "max_cost_usd",
        "model",
        "output_uri",
        "staging_uri",
        "labels",
    )

    def __init__(
        self,
        *,
        results_table: str,
        job_name: str | None = None,
        max_rounds: int = 2,
        max_cost_usd: float | str | None = None,
        prices: Any = None,
        estimated_output_tokens: int | None = None,
        preflight: bool | None = None,
        model: str | None = None,
        output_uri: str | None = None,
        staging_uri: str | None = None,
        labels: Mapping[str, str] | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        deferrable: bool = True,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        wait_timeout: timedelta | float = DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(job_name=job_name or "", destination_table=results_table, **kwargs)
        self.results_table = results_table
        self.max_rounds = max_rounds
        self.max_cost_usd = max_cost_usd
        self.prices = prices
        self.estimated_output_tokens = estimated_output_tokens
        self.preflight = preflight
        self.model = model
        self.output_uri = output_uri
        self.staging_uri = staging_uri
        self.labels = labels
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.wait_timeout = wait_timeout
        self._to_cancel: Callable[[], None] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Find the rounds that earlier tries have begun, then go on."""
        return self._resume(context, connect(self))

    def _resume(self, context: Context, hook: GeminiBatchHook) -> dict[str, Any]:
        with self._failures():
            self._check()
            series = Series(self, context, hook)
            begun = series.begun()
        for number, job in enumerate(begun):
            later = tuple(str(each.name) for each in begun[number + 1 :])
            if not job.state.is_terminal:
                job = self._wait(series, job)  # noqa: PLW2901
            series = self._landed(series, job, later)
        return self._go_on(series, context)

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        rounds: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """The job of a round has ended: land it, then go on.

        :param rounds: those before it
        """
        hook = connect(self)
        with self._failures():
            job = job_of_event(self, hook, event)
        if rounds is None:
            # ``dag.test()`` keeps the event only.
            return self._resume(context, hook)
        with self._failures():
            series = Series(self, context, hook, tuple(Round(**each) for each in rounds))
        return self._go_on(self._landed(series, job), context)

    def on_kill(self) -> None:
        """The running task is told to end: cancel its job if a user wanted that, not if a worker stops."""
        if self._to_cancel:
            self._to_cancel()

    def _go_on(self, series: Series, context: Context) -> dict[str, Any]:
        while True:
            with self._failures():
                left = series.left()
                end = ended(series.rounds, left, self.max_rounds)
                job = None if end else self._begin(series, context)
            if job is None:
                end = end or End.MAX_COST
                self.log.info("%s", explain(end, series.rounds, left))
                with self._failures():
                    return series.end(end, left)
            series = self._landed(series, self._wait(series, job))

    def _begin(self, series: Series, context: Context) -> BatchJob | None:
        """Begin the next round, or find it begun; ``None`` when it may cost too much."""
        from airflow_gemini_batch.jobs.submission import submit

        source = series.source
        built = series.build()
        spec = series.spec(built, source)
        run = series.identity(source)
        self._to_cancel = partial(cancel_unwanted, self, context["ti"], series.hook, spec, run)
        try:
            submission = submit(
                series.hook,
                spec,
                run,
                is_retry=context["ti"].try_number > 1,
                before_create=partial(series.check_input, spec),
            )
        except CostLimitError as error:
            self.log.warning("%s", error)
            return None
        job = submission.job
        BatchJobLink.persist(context, job.name)
        self.log.info(
            "Round %s: %s requests again, in batch job %s (%s): %s",
            len(series.rounds) + 1,
            f"{built.rows:,}",
            job.name,
            job.state.name,
            submission.reason,
        )
        return job

    def _wait(self, series: Series, job: BatchJob) -> BatchJob:
        if job.state.is_terminal:
            return job
        deadline = utc_now() + seconds_of(self.wait_timeout)
        if self.deferrable:
            self._defer(series, job, deadline)
        with self._failures():
            return wait_here(self, series.hook, job.name, deadline)

    def _defer(self, series: Series, job: BatchJob, deadline: datetime) -> NoReturn:
        self.defer(
            trigger=trigger_for(self, job.name, deadline),
            method_name="execute_complete",
            kwargs={"rounds": [asdict(each) for each in series.rounds]},
        )
        raise AssertionError("defer() does not return")

    def _landed(self, series: Series, job: BatchJob, later: tuple[str, ...] = ()) -> Series:
        """Land a round. What a job has done before it failed is paid for, and counts."""
        with self._failures():
            ended_well(job, accept_incomplete=True)
            series = series.land(job, later)
        self.log.info("Round %s: %s", len(series.rounds), series.rounds[-1])
        return series

    def _check(self) -> None:
        if isinstance(self.max_rounds, bool) or not isinstance(self.max_rounds, int) or self.max_rounds < 1:
            raise InvalidParameterError("max_rounds", self.max_rounds, "give how many jobs at most, from 1")
        if self.write_mode == "truncate":
            raise InvalidParameterError(
                "write_mode",
                self.write_mode,
                "it would delete the rows that are not asked again; leave it out",
            )
        budget_of(self)
        if self.job_name:
            JobName.parse(self.job_name)

    @staticmethod
    def _failures() -> Any:
        return fail_without_retry(DatasetNotFoundError, TableMismatchError)
