"""Rounds that resubmit failed requests: what earlier tries have started, and what comes next."""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.batch_job import is_table_uri
from airflow_gemini_batch.exceptions import InvalidParameterError, QualityGateError, RequestsError
from airflow_gemini_batch.jobs.rounds import End, spent
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.before_create import check_job
from airflow_gemini_batch.tasks.land import check_landing, land_job, passed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.exceptions import CostLimitError
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.rounds import Round
    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.requests.in_bigquery.claims import BegunRound
    from airflow_gemini_batch.requests.in_bigquery.from_failures import RetryInput
    from airflow_gemini_batch.results.retried import RetryManifest
    from airflow_gemini_batch.tasks.landing_wait import LandingWait
    from airflow_gemini_batch.tasks.retry_options import RetryTask
    from airflow_gemini_batch.tasks.retry_sources import Source, Sources
    from airflow_gemini_batch.tasks.retry_state import Plan, RetryState

log = logging.getLogger(__name__)


class Series:
    """The rounds of one task run: those that are done, and the next.

    :param hook: shared by all rounds, since each of its clients has connections and a token of its own
    :param rounds: those that have been landed
    :param before: names of the jobs of rounds that were done before a person cleared the task
    """

    def __init__(
        self,
        task: RetryTask,
        context: Context,
        hook: GeminiBatchHook,
        rounds: tuple[Round, ...] = (),
        before: frozenset[str] = frozenset(),
        sources: Sources | None = None,
    ) -> None:
        self.rounds = rounds
        self.before = before
        self.hook = hook
        self._task = task
        self._options = task.retry
        self._context = context
        table, project = task.retry.results_table, task.retry.project_id
        self._landing = check_landing(task.landing, hook, table, project, parameter="results_table")
        self._sources = sources
        self._reason = ""

    @cached_property
    def _state(self) -> RetryState:
        # Imported here: a DAG file is parsed without what only a running task needs.
        from airflow_gemini_batch.tasks.retry_state import RetryState

        run = run_identity(self._context)
        return RetryState(
            self._options, self._landing, run, self.hook, self.rounds, self.before, self._sources
        )

    def after(self, *rounds: Round) -> Series:
        """Return the series with more rounds; it reads the tables again."""
        done, sources = (*self.rounds, *rounds), self._state.sources
        return Series(self._task, self._context, self.hook, done, self.before, sources)

    @property
    def number(self) -> int:
        """The number of the next round."""
        return self._state.number

    def left(self) -> int:
        """Return how many failed requests may succeed when they are resubmitted."""
        return sum(each.requests for each in self._state.open)

    def explain_other_runs(self) -> str:
        """Say which task runs have claimed open failures; empty if none."""
        return self._state.explain_other_runs()

    def next_round(self) -> Plan | End:
        """Return what the next round resubmits, or why there is none."""
        if not self._state.open and not self.rounds and self._options.job_name:
            self._check_landed()
        return self._state.next_round()

    def begun(self) -> list[BatchJob]:
        """Return the jobs that earlier tries of this task run have created, one per round."""
        from airflow_gemini_batch.jobs.lookup import find_reusable

        if history := self._state.history:
            jobs = [
                find_reusable(self.hook, each.place.project, each.place.location, each.round)
                for each in history
            ]
            return list(filter(None, jobs))
        found: list[BatchJob] = []
        places = sorted(self._places_without_claim())
        for number in range(1, self._options.max_rounds + 1):
            key = self._state.identity_of(number, self._options.job_name).key
            jobs = [find_reusable(self.hook, *place, key) for place in places]
            if not any(jobs):
                break
            found += filter(None, jobs)
        return found

    def _places_without_claim(self) -> set[tuple[str, str]]:
        """Return where older releases, which made no claims, may have created the job of a round."""
        from airflow_gemini_batch.tasks.retry_sources import parsed

        own = self._options.job_name
        names = [own] if own else [each.job_name for each in self._state.open]
        return {(name.project, name.location) for name in map(parsed, names) if name}

    def land(self, job: BatchJob, wait: LandingWait) -> Series:
        """Land a round, and return the series that includes it.

        :param wait: how to wait for BigQuery
        :raises StillRunningError: BigQuery works for longer than that
        """
        from airflow_gemini_batch.results.retried import round_of

        begun = self.record(job)
        failed = begun.failed_jobs if begun else [each.job_name for each in self._state.open]
        own = [self._options.job_name, *(each.job_name for each in self.rounds)]
        replaces = {*failed, *(own if self._options.job_name else ())} - {str(job.name), None}
        names = tuple(sorted(filter(None, replaces)))
        landing = replace(self._landing, prices=self._prices(self._landing.prices))
        manifest = land_job(landing, self._context, self.hook, job, wait, replaces=names, is_round=True)
        return self.after(round_of(manifest))

    def record(self, job: BatchJob) -> BegunRound | None:
        """Note a round's job on its claim, so that other task runs can name it. Return the round."""
        from airflow_gemini_batch.jobs.identity import Mark

        mark = Mark.read(job)
        begun = next((each for each in self._state.history if mark and each.round == mark.run), None)
        if begun and begun.job_name != str(job.name):
            self._state.claims.record_job(begun.round, str(job.name))
        return begun

    def build(self, plan: Plan) -> RetryInput | None:
        """Claim the failures of the next round and build its input; ``None`` if others have claimed them."""
        from airflow_gemini_batch.requests.in_bigquery.from_failures import RetryRequest, build_retry

        output = plan.claim.output_uri
        request = RetryRequest(
            claim=plan.claim,
            failures=self._state.failures,
            claimed=plan.claimed,
            staging_uri=self._options.staging_uri or (output if output.startswith("gs://") else None),
            labels_keys=self._options.key_label,
        )
        storage = self.hook.storage_client(self._landing.project)
        return build_retry(request, bigquery=self._state.bigquery, storage=storage)

    def identity(self) -> RunIdentity:
        """Return the identity of the next round."""
        return self._state.identity

    def spec(self, plan: Plan, built: RetryInput) -> JobSpec:
        """Describe the job of the next round."""
        from airflow_gemini_batch.jobs.spec import job_spec

        output, place, run = plan.claim.output_uri, plan.claim.place, self.identity()
        if is_table_uri(output):
            # Every job needs an output table of its own.
            output = f"{output}_retry_{built.digest}"
        return job_spec(
            project=place.project,
            location=place.location,
            model=place.model,
            input_uri=built.uri,
            output_uri=output,
            display_name=f"{run.dag_id}.{run.task_id}",
            labels=self._labels(plan.source),
        )

    def _labels(self, source: Source) -> Mapping[str, str]:
        if (chosen := self._task.submit.labels) is not None:
            return chosen
        if source.differing:
            log.info(
                "The jobs whose requests failed have different labels, so the new job has none of these: %s. "
                "Set labels to choose.",
                ", ".join(source.differing),
            )
        return source.labels

    def before_create(self, spec: JobSpec) -> dict[str, str]:
        """Refuse a round that would fail or may cost more than is left; return labels for its job.

        :raises CostLimitError: it may cost more, or its cost is unknown
        :raises RequestsError: another task run has taken over the claim
        """
        budget = self._task.submit.budget()
        if budget.limit is not None:
            budget = replace(budget, limit=budget.limit - Decimal(str(spent(self.rounds) or 0)))
        budget = replace(budget, prices=self._prices(budget.prices))
        labels = check_job(self._task.submit, self.hook, spec, budget)
        if not self._state.claims.renew(self._state.round):
            raise RequestsError(
                "Another task run has taken over the requests of this round, because this one created no "
                "batch job for an hour. Nothing was submitted; clear this task to resubmit what is left."
            )
        return labels

    def _prices(self, given: NegotiatedPrices | None) -> NegotiatedPrices | None:
        """What the next round costs: the rounds before it have used up free searches."""
        return given and given.after(sum(each.search_queries for each in self.rounds))

    def stop(self, error: CostLimitError) -> End:
        """End the claim of the next round, which may cost too much and is not submitted."""
        self._state.claims.release(self._state.round)
        self._reason = str(error)
        return End.MAX_COST

    def found(self, end: End) -> RetryManifest:
        """Count all rows after the last round."""
        from airflow_gemini_batch.results.retried import RetryManifest, count_standing

        values, state = self._landing, self._state
        return RetryManifest(
            job_name=self._options.job_name or "",
            destination_table=str(values.destination),
            error_table=str(values.error_table),
            rounds=self.rounds,
            left=self.left(),
            in_other_runs=sum(each.requests for each in state.in_other_runs),
            ended=end,
            reason=self._reason,
            counts=count_standing(values.destination, state.jobs, state.bigquery),
        )

    def end(self, manifest: RetryManifest) -> dict[str, Any]:
        """Check all rows against the quality gates, and return what the task returns.

        :raises QualityGateError: they do not pass yet, and other task runs are resubmitting failures
        """
        try:
            return passed(manifest, self._landing.gates, self._context)
        except AirflowFailException as error:
            if isinstance(error.__cause__, QualityGateError) and manifest.in_other_runs:
                raise error.__cause__ from None  # A retry may find that the other task runs have succeeded.
            raise

    def _check_landed(self) -> None:
        from airflow_gemini_batch.results.landing import WriteMode
        from airflow_gemini_batch.results.row_counts import count_rows

        if self._landing.write_mode is WriteMode.MERGE:
            return  # All its rows may have been replaced by better ones.
        if not count_rows(self._state.bigquery, self._landing.destination, self._state.jobs):
            raise InvalidParameterError(
                "job_name",
                self._options.job_name,
                f"{self._landing.destination} has no rows of this job: land its results first",
            )
