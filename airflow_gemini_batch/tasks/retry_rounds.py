"""The rounds in which a task asks failures again: what earlier tries have begun, and what comes next."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.identity import LABEL_PREFIX
from airflow_gemini_batch.jobs.rounds import spent
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.before_create import SubmittingFace, budget_of, check_input
from airflow_gemini_batch.tasks.land import LandingFace, land_job, landing_values, passed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context
    from google.cloud import bigquery as bq

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.rounds import End, Round
    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.requests.in_bigquery.from_failures import RetryInput
    from airflow_gemini_batch.requests.in_bigquery.statements import Failures


class RetryingFace(LandingFace, SubmittingFace, Protocol):
    """A face that asks failures again; the values are those of GeminiBatchRetryFailedOperator."""

    results_table: str
    job_name: str
    max_rounds: int
    model: str | None
    output_uri: str | None
    staging_uri: str | None
    labels: Mapping[str, str] | None


class Series:
    """The rounds of one task run: what is done, and the next.

    :param hook: of all rounds: its clients have connections and a token each
    :param rounds: those that are landed
    """

    def __init__(
        self, task: RetryingFace, context: Context, hook: GeminiBatchHook, rounds: tuple[Round, ...] = ()
    ) -> None:
        self.rounds = rounds
        self.hook = hook
        self._task = task
        self._context = context
        self._run = run_identity(context)
        self._values = landing_values(task, task.results_table, hook)

    @cached_property
    def _bigquery(self) -> bq.Client:
        return self.hook.bigquery_client(self._values.project)

    @cached_property
    def _open(self) -> dict[str, int]:
        """Failures by the name of their job."""
        from airflow_gemini_batch.gcp.table_name import dataset_location
        from airflow_gemini_batch.requests.in_bigquery.from_failures import count_failures

        location = dataset_location(self._values.destination, self._bigquery, "global")
        found = count_failures(self._failures, self._bigquery, location)
        if not found and not self.rounds and self._task.job_name:
            self._check_landed()
        return found

    @property
    def _failures(self) -> Failures:
        from airflow_gemini_batch.requests.in_bigquery.statements import Failures

        return Failures(self._values.destination, self._values.error_table, self._jobs)

    @property
    def _jobs(self) -> tuple[str, ...]:
        """Whose rows are meant; empty for all."""
        own = self._task.job_name
        return (own, *(each.job_name for each in self.rounds)) if own else ()

    @cached_property
    def source(self) -> BatchJob:
        """The job whose model and output are used again."""
        names = [self._task.job_name] if self._task.job_name else sorted(self._open)
        jobs = [self.hook.get_job(JobName.parse(name)) for name in names]
        models = sorted({job.model for job in jobs})
        if len(models) > 1 and not self._task.model:
            raise InvalidParameterError(
                "model", None, f"the failures are of jobs of several models, {', '.join(models)}; choose one"
            )
        return jobs[-1]

    def left(self) -> int:
        """Failures that may succeed when they are asked again."""
        return sum(self._open.values())

    def begun(self) -> list[BatchJob]:
        """The jobs that earlier tries of this task run have made, round by round."""
        from airflow_gemini_batch.jobs.submission import find_done

        if not (self._task.job_name or self._open):
            return []
        found: list[BatchJob] = []
        name = self.source.name
        for number in range(1, self._task.max_rounds + 1):
            job = find_done(self.hook, name.project, name.location, self.identity(self.source, number))
            if job is None:
                break
            found.append(job)
        return found

    def identity(self, source: BatchJob, number: int | None = None) -> RunIdentity:
        """Who asks: this run, in this round, for the failures of this job or table."""
        meant = self._task.job_name or str(self._values.destination)
        return replace(self._run, part=f"retry {number or len(self.rounds) + 1} {meant}")

    def land(self, job: BatchJob, replaced_by: tuple[str, ...] = ()) -> Series:
        """Land a round, and return the series that it belongs to.

        :param replaced_by: names of the jobs that earlier tries have made of later rounds
        """
        from airflow_gemini_batch.results.retried import round_of

        manifest = land_job(
            self._task,
            self._context,
            self.hook,
            self._values,
            job,
            replaces=tuple(name for name in self._jobs or sorted(self._open) if name != str(job.name)),
            replaced_by=replaced_by,
        )
        return Series(self._task, self._context, self.hook, (*self.rounds, round_of(manifest)))

    def build(self) -> RetryInput:
        """Make the input of the next round."""
        from airflow_gemini_batch.requests.in_bigquery.from_failures import RetryRequest, build_retry

        output = self._task.output_uri or self.source.output_uri or ""
        request = RetryRequest(
            run=self.identity(self.source).key,
            failures=self._failures,
            job_location=self.source.name.location,
            staging_uri=self._task.staging_uri or (output if output.startswith("gs://") else None),
        )
        storage = self.hook.storage_client(self._values.project)
        return build_retry(request, bigquery=self._bigquery, storage=storage)

    def spec(self, built: RetryInput, source: BatchJob) -> JobSpec:
        """The job of the next round."""
        from airflow_gemini_batch.jobs.spec import job_spec

        output = self._task.output_uri or source.output_uri or ""
        if output.startswith("bq://") and output.count(".") >= 2:
            # A job writes a table of its own.
            output = f"{output}_retry_{built.digest}"
        return job_spec(
            project=source.name.project,
            location=source.name.location,
            model=self._task.model or source.model,
            input_uri=built.uri,
            output_uri=output,
            display_name=f"{self._run.dag_id}.{self._run.task_id}",
            labels=_own_labels(source) if self._task.labels is None else self._task.labels,
        )

    def check_input(self, spec: JobSpec) -> dict[str, str]:
        """Refuse a round that would fail or may cost more than is left; return labels for its job.

        :raises CostLimitError: it may, or nobody can say
        """
        budget = budget_of(self._task)
        if budget.limit is not None:
            budget = replace(budget, limit=budget.limit - Decimal(str(spent(self.rounds) or 0)))
        return check_input(self._task, self.hook, spec, budget)

    def end(self, end: End, left: int) -> dict[str, Any]:
        """Hold all rows that were meant against the gates, and return what the task returns."""
        from airflow_gemini_batch.results.retried import RetryManifest, count_standing

        values = self._values
        manifest = RetryManifest(
            job_name=self._task.job_name,
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

        if self._values.write_mode is WriteMode.MERGE:
            return  # All its rows may have given way to better ones.
        if not count_rows(self._bigquery, self._values.destination, (self._task.job_name,)):
            raise InvalidParameterError(
                "job_name",
                self._task.job_name,
                f"{self._values.destination} has no row of it: land its results, then retry its failures",
            )


def _own_labels(job: BatchJob) -> dict[str, str]:
    """The labels that a user has given a job."""
    return {name: value for name, value in job.labels.items() if not name.startswith(LABEL_PREFIX)}
