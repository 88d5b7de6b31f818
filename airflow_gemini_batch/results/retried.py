"""The result of resubmitting failed requests: rounds, and rows by status afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.jobs.rounds import Round, spent, what_is_left
from airflow_gemini_batch.results.row_status import RowStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud import bigquery as bq

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.rounds import End
    from airflow_gemini_batch.results.summary import Manifest


@dataclass(frozen=True)
class RetryManifest:
    """The result of all rounds of a task run.

    :param job_name: the job whose failures were resubmitted; empty for those of the whole table
    :param left: retryable failures that remain
    :param in_other_runs: how many of them other task runs have claimed
    :param reason: why another round may cost too much
    :param counts: rows by status after the last round, including rows that were not resubmitted
    """

    job_name: str
    destination_table: str
    error_table: str
    rounds: tuple[Round, ...]
    left: int
    ended: End
    counts: Mapping[RowStatus, int]
    in_other_runs: int = 0
    reason: str = ""

    @property
    def remedy(self) -> str:
        """How more rows may succeed, in sentences; empty if no request that may is left."""
        return what_is_left(self.ended, self.left, self.reason) if self.left else ""

    @property
    def rows(self) -> int:
        """Rows of every status."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """Rows that did not succeed."""
        return self.rows - self.counts[RowStatus.SUCCEEDED]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "results_table": self.destination_table,
            "error_table": self.error_table,
            "rounds": [asdict(each) for each in self.rounds],
            "succeeded": sum(each.succeeded for each in self.rounds),
            "left": self.left,
            "in_other_runs": self.in_other_runs,
            "ended": self.ended.value,
            "counts": {status.value: count for status, count in self.counts.items()},
            "cost_usd": spent(self.rounds),
        }


def round_of(landed: Manifest) -> Round:
    """Summarize a round from its landing."""
    return Round(
        job_name=landed.job_name,
        asked=landed.rows if landed.input_rows is None else landed.input_rows,
        succeeded=landed.counts[RowStatus.SUCCEEDED],
        cost_usd=None if landed.cost_usd is None else float(landed.cost_usd),
        search_queries=landed.search_queries,
    )


def standing_script(results: TableName, *, of_jobs: bool) -> str:
    """Return the query that counts rows by status.

    :param of_jobs: count only rows of the jobs ``@job_names``. These have replaced each other's rows, so each
        request has one row, and all rows count
    """
    return render("results/standing", results=results, of_jobs=of_jobs)


def count_standing(results: TableName, jobs: tuple[str, ...], bigquery: bq.Client) -> dict[RowStatus, int]:
    """Count the rows of a table by status.

    :param jobs: a job and the jobs that resubmitted its failures; empty for all jobs
    """
    from google.cloud import bigquery as bq

    config = bq.QueryJobConfig(query_parameters=[bq.ArrayQueryParameter("job_names", "STRING", jobs)])
    found = bigquery.query(standing_script(results, of_jobs=bool(jobs)), job_config=config).result()
    return dict.fromkeys(RowStatus, 0) | {RowStatus(row["status"]): row["row_count"] for row in found}
