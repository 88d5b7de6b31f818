"""Claims: which round of which task run resubmits a failed request, so that no other resubmits it too.

A round claims failures in the table ``<results_table>_retry_claims`` before its job is created. A claim names
the failed row by its job, key and request. It stays when the round has been landed: a failure that comes
back, because its job was landed again, has been resubmitted already.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import get_table
from airflow_gemini_batch.requests.in_bigquery.jobs import TableJobs
from airflow_gemini_batch.requests.keys import KEY_LABEL, LABEL_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.cloud import bigquery as bq

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.in_bigquery.statements import Failures
    from airflow_gemini_batch.requests.in_bigquery.table_marks import TableMark

LEASE_SECONDS = 3600
"""Seconds by BigQuery's clock during which nobody takes over a claim, whatever became of its task run.

A claim is renewed right before its job is created, and the job is listed some minutes later at most.
"""

COLUMNS = (
    ("failed_job", "STRING", "The batch job whose request failed, projects/…/batchPredictionJobs/…"),
    ("key", "STRING", "The key of the request"),
    ("request_digest", "STRING", "SHA-256 of the request"),
    ("round", "STRING", "The round that resubmits it, as in the label of the round's batch job"),
    ("series", "STRING", "Shared by all rounds of a task run for this table"),
    ("retried_job", "STRING", "The job that the task retries; empty if it retries the whole table"),
    ("number", "INTEGER", "The number of the round in its task run, from 1"),
    ("owner", "STRING", "The task run"),
    ("project", "STRING", "The project of the round's batch job"),
    ("location", "STRING", "The location of the round's batch job"),
    ("model", "STRING", "The model of the round's batch job"),
    ("output_uri", "STRING", "Where the round's batch job writes"),
    ("claimed_at", "TIMESTAMP", "When it was claimed, or the claim was last renewed"),
    ("job_name", "STRING", "The round's batch job, once it exists"),
)
"""Names, types and descriptions of the columns of the table."""


@dataclass(frozen=True, order=True)
class Place:
    """Where a batch job runs, and its model as a full resource name."""

    project: str
    location: str
    model: str


@dataclass(frozen=True)
class Claim:
    """What a round claims: the open failures of some jobs, except those that another round has claimed.

    :param round: identifies the round, see :attr:`RunIdentity.key`
    :param series: identifies the task run and the table
    :param retried_job: the job that the task retries; empty for all
    :param number: of the round, from 1
    :param owner: describes the task run to the users of others
    :param output_uri: where the round's job writes
    :param failed_jobs: names of the jobs
    :param abandoned: other rounds whose claims end, if nobody has renewed them in the meantime
    """

    round: str
    series: str
    retried_job: str
    number: int
    owner: str
    place: Place
    output_uri: str
    failed_jobs: tuple[str, ...]
    abandoned: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, str | int | list[str]]:
        """The query parameters of :func:`claim_statement`, besides those of the failures."""
        return {
            "round": self.round,
            "series": self.series,
            "retried_job": self.retried_job,
            "number": self.number,
            "owner": self.owner,
            "project": self.place.project,
            "location": self.place.location,
            "model": self.place.model,
            "output_uri": self.output_uri,
            "failed_jobs": list(self.failed_jobs),
            "abandoned": list(self.abandoned),
        }


@dataclass(frozen=True)
class OpenFailures:
    """Retryable failures of one job, claimed by one round or by none.

    :param job_name: the job whose requests failed
    :param requests: how many
    :param round: see :class:`Claim`; empty if they are not claimed. So are the attributes that follow
    :param round_job_name: the round's job, once it was created and noted
    :param age_seconds: since the claim was made or renewed, by BigQuery's clock
    """

    job_name: str
    requests: int
    round: str = ""
    owner: str = ""
    project: str = ""
    location: str = ""
    model: str = ""
    output_uri: str = ""
    round_job_name: str | None = None
    age_seconds: int = 0

    @property
    def place(self) -> Place:
        """Where the round's job runs."""
        return Place(self.project, self.location, self.model)

    @property
    def may_be_abandoned(self) -> bool:
        """Whether the claim is so old that its owner may have died before it created a job."""
        return bool(self.round) and self.age_seconds > LEASE_SECONDS


@dataclass(frozen=True)
class BegunRound:
    """A round that has claimed failures.

    :param retried_job: see :class:`Claim`
    :param failed_jobs: names of the jobs whose failures it has claimed
    :param job_name: its job, once it was created and noted
    """

    series: str
    retried_job: str
    number: int
    round: str
    place: Place
    output_uri: str
    failed_jobs: tuple[str, ...] = field(default=())
    job_name: str | None = None


def related(rounds: Iterable[BegunRound], job_name: str) -> tuple[BegunRound, ...]:
    """Return the rounds that resubmitted failures of a job, or failures of such rounds.

    :param job_name: its name; empty for all rounds
    """
    rounds = tuple(rounds)
    if not job_name:
        return rounds
    jobs: set[str | None] = {job_name}
    while more := {each.job_name for each in rounds if jobs.intersection(each.failed_jobs)} - jobs - {None}:
        jobs |= more
    return tuple(
        each for each in rounds if each.retried_job == job_name or jobs.intersection(each.failed_jobs)
    )


class Claims:
    """The table of claims on the failures of a results table.

    :param location: location of the tables' dataset
    """

    def __init__(self, results: TableName, bigquery: bq.Client, location: str) -> None:
        self.table = results.sibling(f"{results.table}_retry_claims")
        self._bigquery = bigquery
        self._jobs = TableJobs(bigquery, location, "")

    def exist(self) -> bool:
        """Whether the table exists: it is created when the first claim is made."""
        return get_table(self._bigquery, self.table) is not None

    def ensure(self) -> None:
        """Create the table if it does not exist."""
        from google.cloud.bigquery import SchemaField, Table

        if self.exist():
            return
        schema = [SchemaField(column, kind, description=text) for column, kind, text in COLUMNS]
        table = Table(str(self.table), schema)
        table.description = "Failed requests that are being resubmitted, or were, and by which task run."
        table.clustering_fields = ["failed_job", "key"]
        self._bigquery.create_table(table, exists_ok=True)

    def rounds(self, series: Iterable[str], retried_job: str) -> tuple[BegunRound, ...]:
        """Return the rounds of a task run, and those in which any task run has retried a job by its name.

        :param series: see :class:`Claim`
        :param retried_job: its name; empty for none
        """
        if not self.exist():
            return ()
        given: dict[str, str | int | list[str]] = {
            "series": list(series),
            "retried_job": retried_job or "none",
        }
        return tuple(
            BegunRound(
                series=row["series"],
                retried_job=row["retried_job"] or "",
                number=row["number"],
                round=row["round"],
                place=Place(row["project"], row["location"], row["model"]),
                output_uri=row["output_uri"],
                failed_jobs=tuple(sorted(row["failed_jobs"])),
                job_name=row["job_name"],
            )
            for row in self._jobs.rows(rounds_statement(self.table), given)
        )

    def renew(self, round_: str) -> int:
        """Extend a claim, and return how many requests it holds: none, if it was taken over."""
        (row,) = self._jobs.write(renew_statement(self.table), {"round": round_})
        return int(row["requests"])

    def record_job(self, round_: str, job_name: str) -> None:
        """Note the batch job of a round on its claim."""
        self._jobs.write(record_job_statement(self.table), {"round": round_, "job_name": job_name})

    def release(self, round_: str) -> None:
        """End the claim of a round that has no job, so that other task runs may resubmit its requests."""
        self._jobs.write(release_statement(self.table), {"round": round_})


def open_failures_statement(failures: Failures, claims: TableName | None) -> str:
    """Return the script that counts open failures; with ``jobs``, its parameter is the array ``@jobs``.

    :param claims: the table of claims, if it exists
    """
    return render("requests/in_bigquery/open_failures", failures=failures, claims=claims)


def claim_statement(
    failures: Failures,
    claims: TableName,
    destination: TableName,
    mark: TableMark,
    days: int,
    *,
    labels_keys: bool = False,
) -> str:
    """Return the script that claims failures and copies their requests to a new table.

    :param mark: of the new table
    :param days: days until the new table expires
    :param labels_keys: write keys into the requests, as a label
    """
    return render(
        "requests/in_bigquery/claim",
        failures=failures,
        claims=claims,
        destination=destination,
        mark=mark,
        days=days,
        lease_seconds=LEASE_SECONDS,
        labels_keys=labels_keys,
        key_label=KEY_LABEL,
        label_pattern=LABEL_PATTERN,
    )


def rounds_statement(claims: TableName) -> str:
    """Return the query for the rounds of ``@series`` and of ``@retried_job``."""
    return render("requests/in_bigquery/rounds", claims=claims)


def renew_statement(claims: TableName) -> str:
    """Return the script that renews and counts the claims of ``@round``."""
    return render("requests/in_bigquery/renew", claims=claims)


def record_job_statement(claims: TableName) -> str:
    """Return the statement that notes ``@job_name`` on the claims of ``@round``."""
    return render("requests/in_bigquery/record_job", claims=claims)


def release_statement(claims: TableName) -> str:
    """Return the statement that ends the claims of ``@round``."""
    return render("requests/in_bigquery/release", claims=claims)


def source_models_statement(results: TableName) -> str:
    """Return the query for the models of ``@jobs``."""
    return render("requests/in_bigquery/source_models", results=results)
