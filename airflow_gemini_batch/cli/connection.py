"""What a subcommand that calls Google Cloud works with: credentials, a place, and an installation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_gemini_batch.exceptions import GeminiBatchError, InvalidParameterError
from airflow_gemini_batch.settings import LOCATION, PROJECT_ID

if TYPE_CHECKING:
    from airflow_gemini_batch.exceptions import ServiceUnreachableError
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

_OWN_CONNECTION = "gemini_batch_command_line"
_VERTEX, _BIGQUERY = "GOOGLE_VERTEX_BASE_URL", "BIGQUERY_EMULATOR_HOST"


def hook_of(gcp_conn_id: str | None, project: str | None, *, uses_bigquery: bool = False) -> GeminiBatchHook:
    """Return a hook; that it has credentials is not checked.

    :param gcp_conn_id: ``None`` for the emulators that the environment names, else Application Default
        Credentials
    :param project: the default project of the emulators' account
    :param uses_bigquery: whether the emulator of BigQuery decides that no credentials are needed
    """
    # Colours of Airflow's log would be escaped.
    os.environ["AIRFLOW__LOGGING__COLORED_CONSOLE_LOG"] = "False"
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.local_stack.stack import stay_on_loopback

    if os.environ.get(_BIGQUERY) and os.environ.get(_VERTEX):
        stay_on_loopback()
    if gcp_conn_id is None:
        own = _connection(project or PROJECT_ID.value(), uses_bigquery)
        os.environ[f"AIRFLOW_CONN_{_OWN_CONNECTION.upper()}"] = own
    return GeminiBatchHook(gcp_conn_id=gcp_conn_id or _OWN_CONNECTION)


def checked_hook_of(
    gcp_conn_id: str | None, project: str | None, purpose: str, *, uses_bigquery: bool = False
) -> GeminiBatchHook:
    """Return a hook that has credentials, see :func:`hook_of`.

    :param purpose: for the error, such as ``to read the tables``
    :raises InvalidParameterError: there is no such connection, or it has no credentials
    :raises GeminiBatchError: no connection is named, and this machine has no credentials
    """
    from airflow.providers.common.compat.sdk import AirflowException
    from google.auth.exceptions import DefaultCredentialsError

    try:
        hook = hook_of(gcp_conn_id, project, uses_bigquery=uses_bigquery)
        hook.get_credentials()
    except (AirflowException, DefaultCredentialsError) as error:
        if gcp_conn_id is None:
            raise GeminiBatchError(f"Found no credentials {purpose}: {error}") from None
        fix = f"found no credentials {purpose}: {error}"
        raise InvalidParameterError("--gcp-conn-id", gcp_conn_id, fix) from None
    return hook


def location_of(location: str | None) -> str:
    """Return where the jobs run: as given, else as configured, else ``global``."""
    return location or LOCATION.value() or "global"


def installation_of(given: str | None, *, is_any: bool) -> str | None:
    """Return whose jobs are meant; ``None`` for those of all installations.

    :raises InvalidParameterError: it is not known which installation this is
    """
    if given or is_any:
        return given or None
    from airflow_gemini_batch.tasks.installation import known_installation

    if found := known_installation():
        return found
    raise InvalidParameterError(
        "--installation",
        None,
        "it is not known which Airflow this is: set AIRFLOW_HOME to its home, give the value of its Airflow "
        "variable gemini_batch_installation, or give --all-installations",
    )


def how_to_reach(error: ServiceUnreachableError) -> str:
    """Say what to do if a service was not reached because the local stack does not run; empty otherwise."""
    from airflow_gemini_batch.local_stack.places import program

    if not (error.never_sent and _is_here(os.environ.get(_VERTEX, ""))):
        return ""
    return f". The local stack is not running there: start it with `{program()} up`."


def _connection(project: str | None, uses_bigquery: bool) -> str:
    """Return a connection to the emulators if the service is one, else to Google Cloud, as JSON."""
    from airflow_gemini_batch.emulator.credentials import connection_json
    from airflow_gemini_batch.local_stack.stack import PROJECT

    vertex_url = os.environ.get(_VERTEX, "")
    is_emulated = bool(os.environ.get(_BIGQUERY)) if uses_bigquery else _is_here(vertex_url)
    if not is_emulated:
        # A connection without a key stands for Application Default Credentials.
        return '{"conn_type": "google_cloud_platform"}'
    if vertex_url:
        return connection_json(vertex_url, project or PROJECT)
    # The emulators of BigQuery and Cloud Storage accept it; Vertex AI, which is not emulated, is not called.
    return '{"conn_type": "google_cloud_platform", "extra": {"is_anonymous": true}}'


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
