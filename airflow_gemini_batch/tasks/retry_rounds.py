"""Rounds that resubmit failed requests: what earlier tries have started, and what comes next."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import InvalidParameterError, QualityGateError, RequestsError
from airflow_gemini_batch.jobs.rounds import End, ended, is_abandoned, spent
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.before_create import check_input
from airflow_gemini_batch.tasks.land import check_landing, land_job, passed
from airflow_gemini_batch.tasks.options import LandingOptions, Options, SubmitOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context
    from google.cloud import bigquery as bq

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.rounds import Round
    from airflow_gemini_batch.jobs.spec import JobSpec
    from airflow_gemini_batch.requests.in_bigquery.claims import BegunRound, Claims, OpenFailures, Place
    from airflow_gemini_batch.requests.in_bigquery.from_failures import RetryInput
    from airflow_gemini_batch.requests.in_bigquery.statements import Failures
    from airflow_gemini_batch.tasks.retry_sources import Sources


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


@dataclass(frozen=True)
class Plan:
    """The next round: the failures of jobs that share a location and a model.

    :param failed_jobs: names of these jobs
    :param requests: how many failures are open
    :param claimed: how many of them the round has claimed in an earlier try
    :param abandoned: rounds of other task runs whose claims it takes over
    """

    place: Place
    output_uri: str
    labels: Mapping[str, str]
    failed_jobs: tuple[str, ...]
    requests: int
    claimed: int = 0
    abandoned: tuple[str, ...] = ()


class Series:
    """The rounds of one task run: those that are done, and the next.

    :param hook: shared by all rounds, since each of its clients has connections and a token of its own
    :param rounds: those that have been landed
    """

    def __init__(
        self,
        task: RetryTask,
        context: Context,
        hook: GeminiBatchHook,
        rounds: tuple[Round, ...] = (),
        sources: Sources | None = None,
    ) -> None:
        self.rounds = rounds
        self.hook = hook
        self._task = task
        self._options = task.retry
        self._context = context
        self._run = run_identity(context)
        self._landing = check_landing(task.landing, hook, task.retry.results_table, task.retry.project_id)
        self._known_sources = sources

    @cached_property
    def _bigquery(self) -> bq.Client:
        return self.hook.bigquery_client(self._landing.project)

    @cached_property
    def _location(self) -> str:
        from airflow_gemini_batch.gcp.table_name import dataset_location

        return dataset_location(self._landing.destination, self._bigquery, "global")

    @cached_property
    def _sources(self) -> Sources:
        from airflow_gemini_batch.tasks.retry_sources import Sources

        return self._known_sources or Sources(
            self.hook, self._landing.destination, self._bigquery, self._location
        )

    @cached_property
    def _claims(self) -> Claims:
        from airflow_gemini_batch.requests.in_bigquery.claims import Claims

        return Claims(self._landing.destination, self._bigquery, self._location)

    @cached_property
    def _history(self) -> tuple[BegunRound, ...]:
        """The rounds that this task run has begun, in any try."""
        return self._claims.rounds(self._identity("retry").key)

    @cached_property
    def _open(self) -> tuple[OpenFailures, ...]:
        """The failed requests that may succeed, by their job and by the round that has claimed them."""
        from airflow_gemini_batch.requests.in_bigquery.from_failures import find_failures

        found = find_failures(self._failures, self._bigquery, self._location)
        if not found and not self.rounds and self._options.job_name:
            self._check_landed()
        return found

    @cached_property
    def _abandoned(self) -> tuple[str, ...]:
        """Rounds of other task runs that have claimed open failures and will not resubmit them."""
        from airflow_gemini_batch.jobs.identity import Mark

        def jobs_of(each: OpenFailures) -> list[BatchJob]:
            found = self.hook.list_jobs(each.project, each.location, Mark(each.round, "").list_filter)
            return [job for job in found if (mark := Mark.read(job)) and mark.run == each.round]

        old = {each.round: each for each in self._open if each.may_be_abandoned and each.round != self._round}
        return tuple(sorted(name for name, each in old.items() if is_abandoned(jobs_of(each))))

    @property
    def _elsewhere(self) -> tuple[OpenFailures, ...]:
        """Open failures that other task runs resubmit."""
        mine = ("", self._round, *self._abandoned)
        return tuple(each for each in self._open if each.round not in mine)

    @property
    def _failures(self) -> Failures:
        from airflow_gemini_batch.requests.in_bigquery.statements import Failures

        return Failures(self._landing.destination, self._landing.error_table, self._jobs)

    @property
    def _jobs(self) -> tuple[str, ...]:
        """The jobs whose rows count; empty for all."""
        own = self._options.job_name
        return (own, *(each.job_name for each in self.rounds)) if own else ()

    @property
    def number(self) -> int:
        """The number of the next round. A job that was deleted since leaves a gap."""
        landed = {each.job_name for each in self.rounds}
        done = [each.number for each in self._history if each.job_name in landed]
        return max([len(self.rounds), *done]) + 1

    @property
    def _round(self) -> str:
        return self.identity(self.number).key

    def identity(self, number: int) -> RunIdentity:
        """Return the identity of a round: this task run, its number, and the job or table it retries."""
        return self._identity(f"retry {number}")

    def _identity(self, what: str) -> RunIdentity:
        scope = self._options.job_name or str(self._landing.destination)
        return replace(self._run, part=f"{what} {scope}")

    def left(self) -> int:
        """Return how many failed requests may succeed when they are resubmitted."""
        return sum(each.requests for each in self._open)

    def in_other_runs(self) -> str:
        """Describe which failures other task runs resubmit; empty if none."""
        asked: Counter[tuple[str, str]] = Counter()
        for each in self._elsewhere:
            asked[each.owner, each.round_job_name or "no batch job yet"] += each.requests
        return "; ".join(f"{count:,} by {owner} ({job})" for (owner, job), count in asked.most_common(10))

    def next_round(self) -> Plan | End:
        """Return what the next round resubmits, or why there is none."""
        mine = [each for each in self._open if each.round == self._round]
        if mine:
            begun = next(each for each in self._history if each.round == self._round)
            return self._plan(begun.place, mine, begun.output_uri)
        groups, unknown = self._groups([each for each in self._open if each.round in ("", *self._abandoned)])
        ends = []
        for place, failures in sorted(groups.items(), key=lambda each: (-_sum(each[1]), each[0])):
            end = ended(self._rounds_in(place), _sum(failures), self._options.max_rounds)
            if end is None:
                return self._plan(place, failures)
            ends.append(end)
        if unknown and not ends and not self.rounds:
            fix = f"batch job {unknown[0].job_name} was deleted, and no response names its model: choose one"
            raise InvalidParameterError("model", None, fix)
        ends += [End.SOURCE_UNKNOWN] if unknown else []
        return ends[0] if ends else End.OTHER_RUN if self._elsewhere else End.NOTHING_LEFT

    def _groups(
        self, failures: list[OpenFailures]
    ) -> tuple[dict[Place, list[OpenFailures]], list[OpenFailures]]:
        """Return failures by location and model, and those for which these are unknown."""
        places = self._sources.places({each.job_name for each in failures}, self._options.model)
        groups: dict[Place, list[OpenFailures]] = defaultdict(list)
        for each in failures:
            if place := places[each.job_name]:
                groups[place].append(each)
        return groups, [each for each in failures if not places[each.job_name]]

    def _rounds_in(self, place: Place) -> list[Round]:
        """Return the rounds with a location and model. Older releases have not recorded the model."""
        known = {each.job_name: each.place for each in self._history}
        return [each for each in self.rounds if known.get(each.job_name, place) == place]

    def _plan(self, place: Place, failures: list[OpenFailures], output_uri: str | None = None) -> Plan:
        names = tuple(sorted({each.job_name for each in failures}))
        source = self._sources.source(names)
        output = output_uri or self._options.output_uri or source.output_uri
        if not output:
            fix = f"batch job {names[-1]} was deleted, so its output location is unknown: choose one"
            raise InvalidParameterError("output_uri", None, fix)
        return Plan(
            place=place,
            output_uri=output,
            labels=source.labels if self._task.submit.labels is None else self._task.submit.labels,
            failed_jobs=names,
            requests=_sum(failures),
            claimed=_sum(failures) if output_uri else 0,
            abandoned=self._abandoned,
        )

    def begun(self) -> list[BatchJob]:
        """Return the jobs that earlier tries of this task run have created, one per round."""
        from airflow_gemini_batch.jobs.submission import find_reusable

        history = {each.number: (each.place.project, each.place.location) for each in self._history}
        last = max(history, default=self._options.max_rounds)
        found: list[BatchJob] = []
        for number in range(1, last + 1):
            places = {history[number]} if number in history else self._unclaimed_places()
            identity = self.identity(number)
            jobs = [find_reusable(self.hook, *place, identity) for place in sorted(places)]
            if not any(jobs) and not history:
                break
            found += filter(None, jobs)
        return found

    def _unclaimed_places(self) -> set[tuple[str, str]]:
        """Return where older releases, which made no claims, may have created a round's job."""
        names = [self._options.job_name] if self._options.job_name else [each.job_name for each in self._open]
        return {(name.project, name.location) for name in map(JobName.parse, names)}

    def land(self, job: BatchJob, replaced_by: tuple[str, ...] = ()) -> Series:
        """Land a round, and return the series that includes it.

        :param replaced_by: names of the jobs that earlier tries have created for later rounds
        """
        from airflow_gemini_batch.results.retried import round_of

        begun = self.record(job)
        failed = begun.failed_jobs if begun else sorted({each.job_name for each in self._open})
        manifest = land_job(
            self._landing,
            self._context,
            self.hook,
            job,
            replaces=tuple(name for name in self._jobs or failed if name != str(job.name)),
            replaced_by=replaced_by,
        )
        return self.after(round_of(manifest))

    def record(self, job: BatchJob) -> BegunRound | None:
        """Note a round's job on its claim, so that other task runs can name it. Return the round."""
        from airflow_gemini_batch.jobs.identity import Mark

        mark = Mark.read(job)
        begun = next((each for each in self._history if mark and each.round == mark.run), None)
        if begun and begun.job_name != str(job.name):
            self._claims.record_job(begun.round, str(job.name))
        return begun

    def after(self, *rounds: Round) -> Series:
        """Return the series with more rounds; it reads the tables again."""
        return Series(self._task, self._context, self.hook, (*self.rounds, *rounds), self._sources)

    def build(self, plan: Plan) -> RetryInput | None:
        """Claim the failures of the next round and build its input; ``None`` if others have claimed them."""
        from airflow_gemini_batch.requests.in_bigquery.claims import Claim
        from airflow_gemini_batch.requests.in_bigquery.from_failures import RetryRequest, build_retry

        run, output = self._run, plan.output_uri
        index = f"[{run.map_index}]" if run.map_index >= 0 else ""
        claim = Claim(
            round=self._round,
            series=self._identity("retry").key,
            number=self.number,
            owner=f"task {run.dag_id}.{run.task_id}{index} of run {run.run_id}",
            place=plan.place,
            output_uri=output,
            failed_jobs=plan.failed_jobs,
            abandoned=plan.abandoned,
        )
        request = RetryRequest(
            claim=claim,
            failures=self._failures,
            claimed=plan.claimed,
            staging_uri=self._options.staging_uri or (output if output.startswith("gs://") else None),
        )
        storage = self.hook.storage_client(self._landing.project)
        return build_retry(request, bigquery=self._bigquery, storage=storage)

    def spec(self, plan: Plan, built: RetryInput) -> JobSpec:
        """Describe the job of the next round."""
        from airflow_gemini_batch.jobs.spec import job_spec

        output = plan.output_uri
        if output.startswith("bq://") and output.count(".") >= 2:
            # Every job needs an output table of its own.
            output = f"{output}_retry_{built.digest}"
        return job_spec(
            project=plan.place.project,
            location=plan.place.location,
            model=plan.place.model,
            input_uri=built.uri,
            output_uri=output,
            display_name=f"{self._run.dag_id}.{self._run.task_id}",
            labels=plan.labels,
        )

    def before_create(self, spec: JobSpec) -> dict[str, str]:
        """Refuse a round that would fail or may cost more than is left; return labels for its job.

        :raises CostLimitError: it may cost more, or its cost is unknown
        :raises RequestsError: another task run has taken over the claim
        """
        budget = self._task.submit.budget()
        if budget.limit is not None:
            budget = replace(budget, limit=budget.limit - Decimal(str(spent(self.rounds) or 0)))
        labels = check_input(self._task.submit, self.hook, spec, budget)
        if not self._claims.renew(self._round):
            raise RequestsError(
                "Another task run has taken over the requests of this round, because this one created no "
                "batch job for an hour. Nothing was submitted; run the task again to resubmit what is left."
            )
        return labels

    def release(self) -> None:
        """End the claim of the next round, which is not going to be submitted."""
        self._claims.release(self._round)

    def end(self, end: End) -> dict[str, Any]:
        """Check all rows against the quality gates, and return what the task returns.

        :raises QualityGateError: they do not pass yet, and other task runs are resubmitting failures
        """
        from airflow_gemini_batch.results.retried import RetryManifest, count_standing

        values = self._landing
        manifest = RetryManifest(
            job_name=self._options.job_name or "",
            destination_table=str(values.destination),
            error_table=str(values.error_table),
            rounds=self.rounds,
            left=self.left(),
            in_other_runs=_sum(self._elsewhere),
            ended=end,
            counts=count_standing(values.destination, self._jobs, self._bigquery),
        )
        try:
            return passed(manifest, values.gates, self._context)
        except AirflowFailException as error:
            if isinstance(error.__cause__, QualityGateError) and manifest.in_other_runs:
                raise error.__cause__ from None  # A retry may find that the other task runs have succeeded.
            raise

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


def _sum(failures: Iterable[OpenFailures]) -> int:
    return sum(each.requests for each in failures)
