"""Rounds that resubmit failed requests: what earlier tries have started, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.identity import LABEL_PREFIXES
from airflow_gemini_batch.jobs.rounds import spent
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.before_create import check_input
from airflow_gemini_batch.tasks.land import check_landing, land_job, passed
from airflow_gemini_batch.tasks.options import LandingOptions, Options, SubmitOptions

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from google.cloud import bigquery as bq

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.rounds import End, Round
    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.requests.in_bigquery.from_failures import RetryInput
    from airflow_gemini_batch.requests.in_bigquery.statements import Failures


@dataclass(frozen=True, kw_only=True)
class RetryOptions(Options):
    """The parameters of :class:`GeminiBatchRetryFailedOperator` that choose what is resubmitted, and how.

    :param results_table: table in which :class:`GeminiBatchResultsToBigQueryOperator` has landed the jobs
        (templated)
    :param job_name: full resource name of the job whose failed requests are resubmitted; default: all jobs in
        ``results_table`` (templated)
    :param max_rounds: maximum number of rounds, one batch job each
    :param model: model for the resubmitted requests; default: the model of the original job (templated)
    :param output_uri: ``gs://bucket/prefix``, or a ``bq://`` table name; each round appends its own suffix.
        Default: next to the output of the original job (templated)
    :param staging_uri: ``gs://bucket/prefix`` for requests, used where the batch job cannot read tables in
        the dataset; default: the output location of the original job (templated)
    :param project_id: project that runs and pays for the BigQuery jobs; default: the connection's project,
        then ``GOOGLE_CLOUD_PROJECT`` (templated)
    :raises InvalidParameterError: ``max_rounds`` or ``job_name`` cannot work
    """

    templated = ("results_table", "job_name", "model", "output_uri", "staging_uri", "project_id")

    results_table: str
    job_name: str | None = None
    max_rounds: int = 2
    model: str | None = None
    output_uri: str | None = None
    staging_uri: str | None = None
    project_id: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_rounds, bool) or not isinstance(self.max_rounds, int) or self.max_rounds < 1:
            raise InvalidParameterError("max_rounds", self.max_rounds, "give a whole number, 1 or more")
        if self.job_name:
            JobName.parse(self.job_name)


@dataclass(frozen=True)
class RetryTask:
    """All options of a task that resubmits failed requests.

    :raises InvalidParameterError: ``write_mode`` would delete rows that are not resubmitted
    """

    retry: RetryOptions
    submit: SubmitOptions
    landing: LandingOptions

    def __post_init__(self) -> None:
        if self.landing.write_mode == "truncate":
            raise InvalidParameterError(
                "write_mode",
                self.landing.write_mode,
                "it would delete the rows that are not resubmitted; leave it out",
            )
        self.submit.budget()


class Series:
    """The rounds of one task run: those that are done, and the next.

    :param hook: shared by all rounds, since each of its clients has connections and a token of its own
    :param rounds: those that have been landed
    """

    def __init__(
        self, task: RetryTask, context: Context, hook: GeminiBatchHook, rounds: tuple[Round, ...] = ()
    ) -> None:
        self.rounds = rounds
        self.hook = hook
        self._task = task
        self._options = task.retry
        self._context = context
        self._run = run_identity(context)
        self._landing = check_landing(task.landing, hook, task.retry.results_table, task.retry.project_id)

    @cached_property
    def _bigquery(self) -> bq.Client:
        return self.hook.bigquery_client(self._landing.project)

    @cached_property
    def _open(self) -> dict[str, int]:
        """The number of failed requests that may succeed, by the name of their job."""
        from airflow_gemini_batch.gcp.table_name import dataset_location
        from airflow_gemini_batch.requests.in_bigquery.from_failures import count_failures
        from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS
        from airflow_gemini_batch.results.destination import add_columns

        location = dataset_location(self._landing.destination, self._bigquery, "global")
        for table, columns in (
            (self._landing.destination, RESULT_COLUMNS),
            (self._landing.error_table, ERROR_COLUMNS),
        ):
            add_columns(table, columns, self._bigquery)
        found = count_failures(self._failures, self._bigquery, location)
        if not found and not self.rounds and self._options.job_name:
            self._check_landed()
        return found

    @property
    def _failures(self) -> Failures:
        from airflow_gemini_batch.requests.in_bigquery.statements import Failures

        return Failures(self._landing.destination, self._landing.error_table, self._jobs)

    @property
    def _jobs(self) -> tuple[str, ...]:
        """The jobs whose rows count; empty for all."""
        own = self._options.job_name
        return (own, *(each.job_name for each in self.rounds)) if own else ()

    @cached_property
    def source(self) -> BatchJob:
        """The job whose model and output location are reused."""
        names = [self._options.job_name] if self._options.job_name else sorted(self._open)
        jobs = [self.hook.get_job(JobName.parse(name)) for name in names]
        models = sorted({job.model for job in jobs})
        if len(models) > 1 and not self._options.model:
            raise InvalidParameterError(
                "model",
                None,
                f"the failed requests are from jobs with several models, {', '.join(models)}; choose one",
            )
        return jobs[-1]

    def left(self) -> int:
        """Return how many failed requests may succeed when they are resubmitted."""
        return sum(self._open.values())

    def begun(self) -> list[BatchJob]:
        """Return the jobs that earlier tries of this task run have created, one per round."""
        from airflow_gemini_batch.jobs.lookup import find_reusable

        if not (self._options.job_name or self._open):
            return []
        found: list[BatchJob] = []
        name = self.source.name
        for number in range(1, self._options.max_rounds + 1):
            job = find_reusable(self.hook, name.project, name.location, self.identity(self.source, number))
            if job is None:
                break
            found.append(job)
        return found

    def identity(self, source: BatchJob, number: int | None = None) -> RunIdentity:
        """Return the identity of a round: this task run, its number, and the job or table it retries."""
        scope = self._options.job_name or str(self._landing.destination)
        return replace(self._run, part=f"retry {number or len(self.rounds) + 1} {scope}")

    def land(self, job: BatchJob, replaced_by: tuple[str, ...] = ()) -> Series:
        """Land a round, and return the series that includes it.

        :param replaced_by: names of the jobs that earlier tries have created for later rounds
        """
        from airflow_gemini_batch.results.retried import round_of

        manifest = land_job(
            self._landing,
            self._context,
            self.hook,
            job,
            replaces=tuple(name for name in self._jobs or sorted(self._open) if name != str(job.name)),
            replaced_by=replaced_by,
        )
        return Series(self._task, self._context, self.hook, (*self.rounds, round_of(manifest)))

    def build(self) -> RetryInput:
        """Build the input of the next round."""
        from airflow_gemini_batch.requests.in_bigquery.from_failures import RetryRequest, build_retry

        output = self._options.output_uri or self.source.output_uri or ""
        request = RetryRequest(
            run=self.identity(self.source).key,
            failures=self._failures,
            job_location=self.source.name.location,
            staging_uri=self._options.staging_uri or (output if output.startswith("gs://") else None),
        )
        storage = self.hook.storage_client(self._landing.project)
        return build_retry(request, bigquery=self._bigquery, storage=storage)

    def spec(self, built: RetryInput, source: BatchJob) -> JobSpec:
        """Describe the job of the next round."""
        from airflow_gemini_batch.jobs.spec import job_spec

        output = self._options.output_uri or source.output_uri or ""
        if output.startswith("bq://") and output.count(".") >= 2:
            # Every job needs an output table of its own.
            output = f"{output}_retry_{built.digest}"
        return job_spec(
            project=source.name.project,
            location=source.name.location,
            model=self._options.model or source.model,
            input_uri=built.uri,
            output_uri=output,
            display_name=f"{self._run.dag_id}.{self._run.task_id}",
            labels=_own_labels(source) if self._task.submit.labels is None else self._task.submit.labels,
        )

    def check_input(self, spec: JobSpec) -> dict[str, str]:
        """Refuse a round that would fail or may cost more than is left; return labels for its job.

        :raises CostLimitError: it may cost more, or its cost is unknown
        """
        budget = self._task.submit.budget()
        if budget.limit is not None:
            budget = replace(budget, limit=budget.limit - Decimal(str(spent(self.rounds) or 0)))
        return check_input(self._task.submit, self.hook, spec, budget)

    def end(self, end: End, left: int) -> dict[str, Any]:
        """Check all rows against the quality gates, and return what the task returns."""
        from airflow_gemini_batch.results.retried import RetryManifest, count_standing

        values = self._landing
        manifest = RetryManifest(
            job_name=self._options.job_name or "",
            destination_table=str(values.destination),
            error_table=str(values.error_table),
            rounds=self.rounds,
            left=left,
            ended=end,
            counts=count_standing(values.destination, self._jobs, self._bigquery),
        )
        return passed(manifest, values.gates, self._context)

    def _check_landed(self) -> None:
        from airflow_gemini_batch.results.landing import WriteMode
        from airflow_gemini_batch.results.row_counts import count_rows

        if self._landing.write_mode is WriteMode.MERGE:
            return  # All its rows may have been replaced by better ones.
        if not count_rows(self._bigquery, self._landing.destination, self._jobs):
            raise InvalidParameterError(
                "job_name",
                self._options.job_name,
                f"{self._landing.destination} has no rows of this job: land its results first",
            )


def _own_labels(job: BatchJob) -> dict[str, str]:
    """Return the labels that a user has set on a job."""
    return {name: value for name, value in job.labels.items() if not name.startswith(LABEL_PREFIXES)}
