"""The operators that cancel and delete batch jobs, and what lists old ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_gemini_batch.exceptions import DeletionRefusedError, OtherInstallationError
from airflow_gemini_batch.tasks.options import ConnectionOptions
from airflow_gemini_batch.tasks.parameters import (
    check_flag,
    days,
    documented,
    is_known,
    refused_when_parsed,
    store,
)
from airflow_gemini_batch.tasks.wait import (
    check_job_name_when_parsed,
    connect,
    fail_without_retry,
    job_names,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

DEFAULT_MIN_AGE_DAYS = 30
"""Jobs that ended more recently are not deleted unless the user says so."""


@documented(ConnectionOptions)
class GeminiBatchCancelJobOperator(BaseOperator):
    """Requests the cancellation of batch jobs. Completed rows are charged, and kept.

    A job that has ended, is being cancelled or does not exist is no error. Returns the names of the jobs that
    are being cancelled; to wait for their end, use :class:`GeminiBatchJobSensor`.

    :param job_name: full resource name of a job, or a list of names (templated)
    :param any_installation: also cancel jobs that another Airflow installation created, or somebody without
        Airflow. Otherwise such a job fails the task, and no job is cancelled
    """

    template_fields: Sequence[str] = ("job_name", *ConnectionOptions.templated)
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        job_name: str | Sequence[str],
        any_installation: bool = False,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(**kwargs)
        store(self, shared, ConnectionOptions)
        self.job_name = job_name
        self.any_installation = any_installation
        _check_when_parsed(job_name, any_installation)

    def execute(self, context: Context) -> list[str]:
        """Cancel the jobs, and return their names."""
        from airflow_gemini_batch.tasks.installation import installation
        from airflow_gemini_batch.tasks.manage import cancel_jobs

        with fail_without_retry(OtherInstallationError):
            names = job_names(self.job_name, allow_none=True)
            return cancel_jobs(connect(self), names, None if self.any_installation else installation())


@documented(ConnectionOptions)
class GeminiBatchDeleteJobOperator(BaseOperator):
    """Deletes batch jobs that have ended. Their output and their results are kept.

    A job that does not exist is no error. A job that has not ended, or that ended recently, fails the task,
    and nothing is deleted: a task that is cleared finds its job on the server, and if the job is gone, it
    creates a new one and pays for all rows again. Returns the names of the deleted jobs.

    :param job_name: full resource name of a job, or a list of names, which may be empty (templated)
    :param min_age_days: how many days ago a job must have ended; 0 deletes any job that has ended (templated)
    :param any_installation: also delete jobs that another Airflow installation created, or somebody without
        Airflow. Otherwise such a job fails the task, and no job is deleted
    """

    template_fields: Sequence[str] = ("job_name", "min_age_days", *ConnectionOptions.templated)
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        job_name: str | Sequence[str],
        min_age_days: float | str = DEFAULT_MIN_AGE_DAYS,
        any_installation: bool = False,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(**kwargs)
        store(self, shared, ConnectionOptions)
        self.job_name = job_name
        self.min_age_days = min_age_days
        self.any_installation = any_installation
        _check_when_parsed(job_name, any_installation)
        if is_known(min_age_days):
            with refused_when_parsed():
                days("min_age_days", min_age_days)

    def execute(self, context: Context) -> list[str]:
        """Delete the jobs, and return their names."""
        from airflow_gemini_batch.tasks.installation import installation
        from airflow_gemini_batch.tasks.manage import delete_jobs

        with fail_without_retry(OtherInstallationError, DeletionRefusedError):
            names = job_names(self.job_name, allow_none=True)
            min_age = days("min_age_days", self.min_age_days)
            mine = None if self.any_installation else installation()
            return delete_jobs(connect(self), names, mine, min_age)


def old_jobs(
    location: str,
    min_age_days: float | str = DEFAULT_MIN_AGE_DAYS,
    *,
    project_id: str | None = None,
    gcp_conn_id: str = "google_cloud_default",
    impersonation_chain: str | Sequence[str] | None = None,
) -> list[str]:
    """Return the names of the jobs of this Airflow installation that have ended, oldest jobs last.

    Call it in a task, and give its output to :class:`GeminiBatchDeleteJobOperator`.

    :param location: ``global``, ``us``, ``eu`` or a region, where the jobs ran
    :param min_age_days: how many days ago a job must have ended
    :param project_id: project of the jobs; default: the connection's project, then ``GOOGLE_CLOUD_PROJECT``
    :param gcp_conn_id: Airflow connection to Google Cloud
    :param impersonation_chain: service account to impersonate, or the chain of accounts that leads to it
    :raises InvalidParameterError: a value cannot work
    """
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.tasks.manage import old_jobs as find

    hook = GeminiBatchHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain)
    return find(hook, project_id, location, days("min_age_days", min_age_days))


def _check_when_parsed(job_name: object, any_installation: object) -> None:
    check_job_name_when_parsed(job_name, several=True, allow_none=True)
    with refused_when_parsed():
        check_flag("any_installation", any_installation)
