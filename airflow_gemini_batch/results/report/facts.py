"""The facts of a report: read from the job's tables and aggregated in BigQuery."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cost.ranges import CostSpan
from airflow_gemini_batch.exceptions import ReportError
from airflow_gemini_batch.gcp.bigquery_message import explain_error
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.gcp.table_name import get_table
from airflow_gemini_batch.jobs.identity import estimate_label
from airflow_gemini_batch.messages import without_quoted_text
from airflow_gemini_batch.results.cost import Tokens
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.token_kinds import ALL_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from google.cloud.bigquery import Client

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.results.summary import Manifest


@dataclass(frozen=True)
class ErrorKind:
    """Errors of the same kind: same status and code, and messages that differ only in numbers.

    :param code: HTTP status; ``None`` if the error has none
    :param name: error name from the service, or the finish reason
    :param message: one of the messages, from the service or this package, without the text that it quotes
    :param rows: rows with such an error
    :param retryable: those of them that may succeed if resubmitted
    :param keys: keys of some of the rows
    """

    status: str
    code: int | None
    name: str | None
    message: str
    rows: int
    retryable: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class ReportFacts:
    """The facts about a job.

    :param job: ``None`` if it was not read from the service, or no longer exists there
    :param manifest: the manifest of its landing; ``None`` if the report is made later
    :param counts: rows by status
    :param finish_reasons: rows by the service's finish reason
    :param token_counts: rows by number of tokens, rounded to three digits, for ``prompt`` and ``response``
    :param errors: the most frequent kinds of errors, most frequent first
    :param error_kinds: number of all kinds of errors
    :param task: ``DAG.TASK`` that landed the job
    :param run: run ID of that task
    :param cost_usd: ``None`` if the model's price is unknown
    :param search_queries: queries to a search tool
    """

    job_name: JobName
    results: TableName
    error_table: TableName
    job: BatchJob | None
    manifest: Manifest | None
    counts: Mapping[RowStatus, int]
    finish_reasons: Mapping[str, int]
    tokens: Tokens
    token_counts: Mapping[str, Mapping[int, int]]
    errors: Sequence[ErrorKind]
    error_kinds: int
    model: str
    task: str
    run: str
    landed_at: datetime
    cost_usd: Decimal | None = None
    search_queries: int = 0

    @property
    def rows(self) -> int:
        """All rows of the job in the results table."""
        return sum(self.counts.values())

    @property
    def estimate(self) -> CostSpan | None:
        """The estimated cost, if it was estimated before the job was created."""
        if self.manifest:
            return self.manifest.estimated_cost_usd
        return CostSpan.from_label(estimate_label(self.job.labels)) if self.job else None


def report_facts(
    name: JobName,
    results: TableName,
    error_table: TableName,
    bigquery: Client,
    *,
    job: BatchJob | None = None,
    manifest: Manifest | None = None,
) -> ReportFacts:
    """Read the facts. The worker receives as little for ten million rows as for ten thousand.

    Counts and tokens are those of the manifest, if given: after a merge by key, the table may have
    kept better rows of other jobs.

    :raises ReportError: the results table has no rows of the job, or a table cannot be read
    """
    has_searches = "search_queries" in _columns(results, bigquery)
    script = report_script("rows", results=results, has_searches=has_searches)
    rows = _query(bigquery, (name,), results, script)
    if not rows and not manifest:
        raise ReportError(f"Table {results} has no rows of {name}. Land the job there first.")
    counts: dict[str, dict[int, int]] = {"prompt": {}, "response": {}}
    for row in _query(bigquery, (name,), results, report_script("tokens", results=results)):
        counts[row["kind"]][row["tokens"]] = row["row_count"]
    errors = _errors((name,), results, error_table, bigquery)
    reasons = _sums(rows, "finish_reason", ignored=None)
    found = _sums(rows, "status")
    return ReportFacts(
        job_name=name,
        results=results,
        error_table=error_table,
        job=job,
        manifest=manifest,
        counts=manifest.counts if manifest else {status: found[status.value] for status in RowStatus},
        finish_reasons=dict(reasons.most_common()),
        tokens=manifest.tokens if manifest else _tokens(rows),
        token_counts=counts,
        errors=tuple(map(_error_kind, errors)),
        error_kinds=errors[0]["kinds"] if errors else 0,
        model=_last(rows, "model_version"),
        task=".".join(filter(None, (_last(rows, "dag_id"), _last(rows, "task_id")))),
        run=_last(rows, "run_id"),
        landed_at=manifest.landed_at if manifest else max(row["landed_at"] for row in rows),
        cost_usd=manifest.cost_usd if manifest else _cost(rows),
        search_queries=manifest.search_queries if manifest else sum(row["search_queries"] for row in rows),
    )


def frequent_errors(
    names: tuple[JobName, ...], results: TableName, error_table: TableName, bigquery: Client
) -> tuple[ErrorKind, ...]:
    """Return the most frequent errors of landed jobs, most frequent first.

    :raises ReportError: the error table cannot be read
    """
    return tuple(map(_error_kind, _errors(names, results, error_table, bigquery)))


def report_script(query: str, **values: TableName | bool) -> str:
    """Return one of the queries ``rows``, ``tokens`` and ``errors``."""
    return render(f"results/report/{query}", **values)


def _errors(
    names: tuple[JobName, ...], results: TableName, error_table: TableName, bigquery: Client
) -> list[Any]:
    is_named = "results_table" in _columns(error_table, bigquery)
    script = report_script("errors", results=results, errors=error_table, is_named=is_named)
    return _query(bigquery, names, error_table, script)


def _columns(name: TableName, bigquery: Client) -> set[str]:
    """Return the names of a table's columns: tables of earlier versions lack some."""
    from google.api_core.exceptions import GoogleAPICallError

    try:
        table = get_table(bigquery, name)
    except GoogleAPICallError as error:
        raise ReportError(f"Could not read table {name}: {explain_error(error)}") from None
    return {field.name for field in table.schema} if table else set()


def _query(bigquery: Client, names: tuple[JobName, ...], table: TableName, script: str) -> list[Any]:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud import bigquery as bq

    of_jobs = bq.ArrayQueryParameter("job_names", "STRING", [str(name) for name in names])
    config = bq.QueryJobConfig(query_parameters=[of_jobs])
    try:
        return list(bigquery.query(script, job_config=config).result())
    except GoogleAPICallError as error:
        raise ReportError(f"Could not read table {table}: {explain_error(error)}") from None


def _tokens(rows: Sequence[Any]) -> Tokens:
    return Tokens(**{kind: sum(row[f"{kind}_tokens"] for row in rows) for kind in ALL_KINDS})


def _cost(rows: Sequence[Any]) -> Decimal | None:
    known = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    return sum(known) if known else None


def _sums(rows: Sequence[Any], name: str, *, ignored: object = ...) -> Counter[str]:
    sums: Counter[str] = Counter()
    for row in rows:
        if row[name] is not ignored:
            sums[row[name]] += row["row_count"]
    return sums


def _last(rows: Sequence[Any], name: str) -> str:
    return max((row[name] for row in rows if row[name] is not None), default="")


def _error_kind(row: Any) -> ErrorKind:
    return ErrorKind(
        status=row["status"],
        code=row["error_code"],
        name=row["error_status"],
        message=without_quoted_text(row["message"] or ""),
        rows=row["row_count"],
        retryable=row["retryable_count"],
        keys=tuple(row["examples"]),
    )
