"""The parameters of a task that resubmits failed requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.tasks.parameters import Options, options

if TYPE_CHECKING:
    from airflow_gemini_batch.tasks.landing_options import LandingOptions
    from airflow_gemini_batch.tasks.options import SubmitOptions


@options
class RetryOptions(Options):
    """The parameters of :class:`GeminiBatchRetryFailedOperator` that choose what is resubmitted, and how.

    :param results_table: table in which :class:`GeminiBatchResultsToBigQueryOperator` has landed the jobs
        (templated)
    :param job_name: full resource name of the job whose failed requests are resubmitted; default: all jobs in
        ``results_table`` (templated)
    :param max_rounds: maximum number of rounds, one batch job each, for each location and model that the jobs
        of the failed requests had
    :param model: model for the resubmitted requests; default: the model of the original job (templated)
    :param output_uri: ``gs://bucket/prefix``, or a ``bq://`` table name; each round appends its own suffix.
        Default: next to the output of the original job (templated)
    :param staging_uri: ``gs://bucket/prefix`` for requests, used where the batch job cannot read tables in
        the dataset; default: the output location of the original job (templated)
    :param key_label: also write the key into each resubmitted request, as the label ``gemini_batch_key``; a
        request that has the label keeps it anyway
    :param project_id: project that runs and pays for the BigQuery jobs; default: the connection's project,
        then ``[gemini_batch] project_id`` (templated)
    :raises InvalidParameterError: ``max_rounds`` or ``job_name`` cannot work
    """

    templated = ("results_table", "job_name", "model", "output_uri", "staging_uri", "project_id")

    results_table: str
    job_name: str | None = None
    max_rounds: int = 2
    model: str | None = None
    output_uri: str | None = None
    staging_uri: str | None = None
    key_label: bool = False
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
