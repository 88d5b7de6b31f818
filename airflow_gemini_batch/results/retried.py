"""What has come of asking failures again, and how the rows stand after it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.jobs.rounds import Round, spent
from airflow_gemini_batch.results.row_status import RowStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud import bigquery as bq

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.rounds import End
    from airflow_gemini_batch.results.summary import Manifest


@dataclass(frozen=True)
class RetryManifest:
    """What the rounds of a task run came to.

    :param job_name: the job whose failures were meant; empty for all of the table
    :param left: failures that may still succeed when they are asked again
    :param buckets: all rows that were meant, good ones too, as they stand after the last round
    """

    job_name: str
    destination_table: str
    error_table: str
    rounds: tuple[Round, ...]
    left: int
    ended: End
    counts: Mapping[RowStatus, int]

    @property
    def rows(self) -> int:
        """Rows in all buckets."""
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "results_table": self.destination_table,
            "error_table": self.error_table,
            "rounds": [asdict(each) for each in self.rounds],
            "succeeded": sum(each.succeeded for each in self.rounds),
            "left": self.left,
            "ended": self.ended.value,
            "counts": {status.value: count for status, count in self.counts.items()},
            "cost_usd": spent(self.rounds),
        }


def round_of(landed: Manifest) -> Round:
    """Read a round off its landing."""
    return Round(
        job_name=landed.job_name,
        resubmitted=landed.rows if landed.input_rows is None else landed.input_rows,
        succeeded=landed.counts[RowStatus.SUCCEEDED],
        cost_usd=None if landed.cost_usd is None else float(landed.cost_usd),
    )


def standing_script(results: TableName, *, of_jobs: bool) -> str:
    """Return the query that counts rows by status.

    :param of_jobs: only those of the jobs ``@job_names``. Their rows have taken the place of each other, so
        there is one for each request, and all count
    """
    is_meant = "job_name IN UNNEST(@job_names)" if of_jobs else "TRUE"
    return render("results/standing", results=results.quoted, is_meant=is_meant, is_one=str(of_jobs).upper())


def count_standing(results: TableName, jobs: tuple[str, ...], bigquery: bq.Client) -> dict[RowStatus, int]:
    """Count the rows of a table by bucket.

    :param jobs: a job and those that were asked its failures again; empty for all
    """
    from google.cloud import bigquery as bq

    config = bq.QueryJobConfig(query_parameters=[bq.ArrayQueryParameter("job_names", "STRING", jobs)])
    found = bigquery.query(standing_script(results, of_jobs=bool(jobs)), job_config=config).result()
    return dict.fromkeys(RowStatus, 0) | {RowStatus(row["status"]): row["row_count"] for row in found}
