"""Looking at BigQuery jobs from a trigger, off the event loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import (
    BigQueryError,
    CredentialsUnavailableError,
    ServiceUnreachableError,
)
from airflow_gemini_batch.gcp.bigquery_message import explain_error
from airflow_gemini_batch.hooks.errors import from_sdk, reading_credentials
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.hooks.threads import connection_key, in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT = 60.0
_BUSY = frozenset({"rateLimitExceeded", "backendError", "internalError"})

# Triggers of one connection share a client, and no more threads than it keeps connections (10).
_hooks: dict[tuple[Any, ...], GeminiBatchHook] = {}
_THREADS = 8


async def running_jobs(
    project: str,
    location: str | None,
    job_ids: Sequence[str],
    *,
    gcp_conn_id: str,
    impersonation_chain: str | Sequence[str] | None,
) -> list[str]:
    """Return the IDs of those BigQuery jobs that are not done. Read once, without retries.

    :raises BigQueryError: BigQuery refused the request
    :raises ServiceUnreachableError: no response
    :raises CredentialsUnavailableError: the connection or its credentials could not be read
    """
    connection = connection_key(gcp_conn_id, impersonation_chain)
    key = (*connection, os.environ.get("BIGQUERY_EMULATOR_HOST"))

    def look() -> list[str]:
        try:
            with reading_credentials(gcp_conn_id):
                hook = _hooks.get(key) or _hooks.setdefault(
                    key, GeminiBatchHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain)
                )
            bigquery = hook.bigquery_client(project)
            how: dict[str, Any] = {"project": project, "location": location, "retry": None}
            jobs = (bigquery.get_job(each, **how, timeout=_TIMEOUT) for each in job_ids)
            return [job.job_id for job in jobs if job.state != "DONE"]
        except Exception as error:
            # The connection may have a new key by now: the next look reads it again.
            _hooks.pop(key, None)
            raise _translated(error, gcp_conn_id) from None

    return await in_thread(("bigquery", *key), look, threads=_THREADS)


def _translated(error: Exception, gcp_conn_id: str) -> Exception:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAPICallError):
        code, reasons = error.code or 0, {each.get("reason") for each in error.errors if hasattr(each, "get")}
        is_transient = code in (408, 429) or code >= 500 or bool(reasons & _BUSY)
        return BigQueryError(explain_error(error), is_transient=is_transient)
    if isinstance(error, GoogleAuthError):
        return CredentialsUnavailableError(gcp_conn_id, f"{type(error).__name__}: no access token")
    translated = from_sdk(error, project="", location="", model=None)
    if translated and isinstance(translated.error, ServiceUnreachableError):
        return ServiceUnreachableError(translated.error.reason, service="BigQuery")
    return error
