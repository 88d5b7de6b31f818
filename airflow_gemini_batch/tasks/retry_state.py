"""What is left to resubmit, by location and model, and what the rounds of any task run have claimed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.table_name import dataset_location
from airflow_gemini_batch.jobs.lookup import find_jobs
from airflow_gemini_batch.jobs.rounds import End, ended, is_abandoned
from airflow_gemini_batch.models import GLOBAL
from airflow_gemini_batch.requests.in_bigquery.claims import Claim, Claims, related
from airflow_gemini_batch.requests.in_bigquery.from_failures import find_failures
from airflow_gemini_batch.requests.in_bigquery.statements import Failures
from airflow_gemini_batch.results.columns import ERROR_COLUMNS, RESULT_COLUMNS, result_columns
from airflow_gemini_batch.results.destination import add_columns, check_columns
from airflow_gemini_batch.tasks.retry_sources import Source, Sources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.cloud import bigquery as bq

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.jobs.rounds import Round
    from airflow_gemini_batch.requests.in_bigquery.claims import BegunRound, OpenFailures, Place
    from airflow_gemini_batch.tasks.land import Landing
    from airflow_gemini_batch.tasks.retry_options import RetryOptions


@dataclass(frozen=True)
class Plan:
    """The next round: the failures of jobs that share a location and a model.

    :param source: what the round takes from these jobs
    :param claimed: how many requests the round has claimed in an earlier try
    """

    claim: Claim
    source: Source
    claimed: int = 0


class RetryState:
    """What the tables say before the next round, each fact read once.

    :param rounds: those that the task run has landed
    :param before: see :func:`ended`
    :param sources: to share with other states, so that each job is read once
    """

    def __init__(
        self,
        options: RetryOptions,
        landing: Landing,
        run: RunIdentity,
        hook: GeminiBatchHook,
        rounds: tuple[Round, ...],
        before: frozenset[str] = frozenset(),
        sources: Sources | None = None,
    ) -> None:
        self._options = options
        self._landing = landing
        self._run = run
        self._hook = hook
        self._rounds = rounds
        self._before = before
        self._given_sources = sources

    @cached_property
    def bigquery(self) -> bq.Client:
        """A client for the project that runs the BigQuery jobs."""
        return self._hook.bigquery_client(self._landing.project)

    @cached_property
    def _location(self) -> str:
        return dataset_location(self._landing.destination, self.bigquery, GLOBAL)

    @cached_property
    def sources(self) -> Sources:
        """The jobs whose requests failed."""
        if self._given_sources:
            return self._given_sources
        return Sources(self._hook, self._landing.destination, self.bigquery, self._location)

    @cached_property
    def claims(self) -> Claims:
        """The table of claims."""
        return Claims(self._landing.destination, self.bigquery, self._location)

    @cached_property
    def _known_rounds(self) -> tuple[BegunRound, ...]:
        own = self._options.job_name or ""
        return related(self.claims.rounds(self._all_series, own), own)

    @cached_property
    def history(self) -> tuple[BegunRound, ...]:
        """The rounds that this task run has begun, in any try, also with another ``job_name``."""
        return tuple(each for each in self._known_rounds if each.series in self._all_series)

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs whose rows count: with ``job_name``, also those that have retried it. Empty for all."""
        own = self._options.job_name
        if not own:
            return ()
        landed = [each.job_name for each in self._rounds]
        known = [each.job_name for each in self._known_rounds if each.job_name]
        return tuple(dict.fromkeys([own, *landed, *known]))

    @property
    def failures(self) -> Failures:
        """The failures that may be resubmitted, whoever has claimed them."""
        return Failures(self._landing.destination, self._landing.error_table, self.jobs)

    @cached_property
    def open(self) -> tuple[OpenFailures, ...]:
        """The failed requests that may succeed, by their job and by the round that has claimed them."""
        # Before anything is paid: a round whose results cannot be landed is of no use.
        wanted = result_columns(self._landing.response_schema)
        check_columns(self._landing.destination, wanted, self.bigquery)
        for table, columns in (
            (self._landing.destination, RESULT_COLUMNS),
            (self._landing.error_table, ERROR_COLUMNS),
        ):
            add_columns(table, columns, self.bigquery)
        return find_failures(self.failures, self.bigquery, self._location)

    @cached_property
    def _abandoned(self) -> tuple[str, ...]:
        """Rounds of other task runs that have claimed open failures and will not resubmit them."""
        old = {each.round: each for each in self.open if each.may_be_abandoned and each.round != self.round}
        return tuple(sorted(name for name, each in old.items() if is_abandoned(self._jobs_of(each))))

    def _jobs_of(self, claimed: OpenFailures) -> list[BatchJob]:
        return find_jobs(self._hook, claimed.project, claimed.location, claimed.round)

    @property
    def in_other_runs(self) -> tuple[OpenFailures, ...]:
        """Open failures that other task runs have claimed."""
        mine = ("", self.round, *self._abandoned)
        return tuple(each for each in self.open if each.round not in mine)

    def explain_other_runs(self) -> str:
        """Say which task runs have claimed open failures; empty if none."""
        asked: Counter[tuple[str, str]] = Counter()
        for each in self.in_other_runs:
            asked[each.owner, each.round_job_name or "no batch job yet"] += each.requests
        return "; ".join(f"{count:,} by {owner} ({job})" for (owner, job), count in asked.most_common(10))

    @cached_property
    def _claimed(self) -> BegunRound | None:
        """The round that an earlier try has claimed requests for, if it has not been landed."""
        landed = {each.job_name for each in self._rounds}
        open_ = {each.round for each in self.open}
        return next(
            (each for each in self.history if each.round in open_ and each.job_name not in landed), None
        )

    @property
    def number(self) -> int:
        """The number of the next round. A round whose job was deleted leaves a gap."""
        if self._claimed:
            return self._claimed.number
        landed = {each.job_name for each in self._rounds}
        done = [each.number for each in self.history if each.job_name in landed]
        return max([len(self._rounds), *done]) + 1

    @property
    def _retried_job(self) -> str:
        return self._claimed.retried_job if self._claimed else self._options.job_name or ""

    @property
    def identity(self) -> RunIdentity:
        """The identity of the next round."""
        return self.identity_of(self.number, self._retried_job)

    @property
    def round(self) -> str:
        """The key of the next round."""
        return self.identity.key

    @property
    def _series(self) -> str:
        return self._part("retry", None).key

    @property
    def _all_series(self) -> tuple[str, str]:
        """The series of this task run, and the one that earlier versions wrote."""
        return self._series, self._part("retry", self._options.job_name).key

    def identity_of(self, number: int, retried_job: str | None) -> RunIdentity:
        """Return the identity of a round: this task run, its number, and the job or table it retries."""
        return self._part(f"retry {number}", retried_job)

    def _part(self, what: str, retried_job: str | None) -> RunIdentity:
        return replace(self._run, part=f"{what} {retried_job or self._landing.destination}")

    def next_round(self) -> Plan | End:
        """Return what the next round resubmits, or why there is none."""
        mine = [each for each in self.open if each.round == self.round]
        if mine:
            return self._plan(mine[0].place, mine, mine[0].output_uri)
        groups, unknown = self._groups([each for each in self.open if each.round in ("", *self._abandoned)])
        ends = []
        for place, failures in sorted(groups.items(), key=lambda each: (-requests_of(each[1]), each[0])):
            rounds, left = self._rounds_in(place), requests_of(failures)
            end = ended(rounds, left, self._options.max_rounds, self._before)
            if end is None:
                return self._plan(place, failures)
            ends.append(end)
        if unknown and not ends and not self._rounds:
            fix = f"batch job {unknown[0].job_name} was deleted, and no response names its model: choose one"
            raise InvalidParameterError("model", None, fix)
        ends += [End.SOURCE_UNKNOWN] if unknown else []
        return ends[0] if ends else End.OTHER_RUN if self.in_other_runs else End.NOTHING_LEFT

    def _groups(
        self, failures: list[OpenFailures]
    ) -> tuple[dict[Place, list[OpenFailures]], list[OpenFailures]]:
        """Return failures by location and model, and those for which these are unknown."""
        places = self.sources.places({each.job_name for each in failures}, self._options.model)
        groups: dict[Place, list[OpenFailures]] = defaultdict(list)
        for each in failures:
            if place := places[each.job_name]:
                groups[place].append(each)
        return groups, [each for each in failures if not places[each.job_name]]

    def _rounds_in(self, place: Place) -> list[Round]:
        """Return the rounds with a location and model. Older releases have not recorded them."""
        known = {each.job_name: each.place for each in self.history}
        return [each for each in self._rounds if known.get(each.job_name, place) == place]

    def _plan(self, place: Place, failures: list[OpenFailures], claimed_output: str = "") -> Plan:
        names = tuple(sorted({each.job_name for each in failures}))
        source = self.sources.source(names)
        output = claimed_output or self._options.output_uri or source.output_uri
        if not output:
            fix = f"batch job {names[-1]} was deleted, so its output location is unknown: choose one"
            raise InvalidParameterError("output_uri", None, fix)
        run = self._run
        index = f"[{run.map_index}]" if run.map_index >= 0 else ""
        claim = Claim(
            round=self.round,
            series=self._series,
            retried_job=self._retried_job,
            number=self.number,
            owner=f"task {run.dag_id}.{run.task_id}{index} of run {run.run_id}",
            place=place,
            output_uri=output,
            failed_jobs=names,
            abandoned=self._abandoned,
        )
        return Plan(claim, source, requests_of(failures) if claimed_output else 0)


def requests_of(failures: Iterable[OpenFailures]) -> int:
    """Return how many requests there are."""
    return sum(each.requests for each in failures)
