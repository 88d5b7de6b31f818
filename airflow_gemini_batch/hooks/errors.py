"""Translates exceptions of google-genai and its transports into those of this package."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import (
    ApiError,
    CredentialsUnavailableError,
    GeminiBatchError,
    JobNotFoundError,
    ModelNotFoundError,
    PermissionDeniedError,
    ServiceUnreachableError,
    UnreadableResponseError,
)
from airflow_gemini_batch.jobs.model_notices import why_not_found

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.auth.exceptions import GoogleAuthError

# The SDK does not wrap errors of its transport, and its transport has changed before (requests, httpx,
# aiohttp, httpx2), so these errors are recognized by the package that defines them.
_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "requests", "urllib3", "ssl"})
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "NewConnectionError"})


@dataclass(frozen=True)
class Translated:
    """The translated error, and whether the credentials were rejected."""

    error: GeminiBatchError
    credentials_refused: bool = False


def from_sdk(error: Exception, *, project: str, location: str, model: str | None) -> Translated | None:
    """Translate an exception; ``None`` if it comes from neither the service nor the network.

    :param model: that the request named, so a 404 means that it was not found; ``None`` if it named a job
    """
    from google.auth import exceptions as auth
    from google.genai import errors as genai_errors
    from pydantic import ValidationError

    if isinstance(error, GeminiBatchError):
        return Translated(error)
    if isinstance(error, genai_errors.APIError):
        return _from_api(error, project, location, model)
    if isinstance(error, auth.GoogleAuthError):
        return _from_auth(error)
    # Early versions of google-genai have no error of their own for it.
    of_sdk = getattr(genai_errors, "UnknownApiResponseError", json.JSONDecodeError)
    if isinstance(error, (json.JSONDecodeError, RecursionError, of_sdk, ValidationError)):
        return Translated(UnreadableResponseError(f"what google-genai cannot read ({type(error).__name__})"))
    never_sent = type(error).__name__ in _NEVER_SENT or isinstance(error, ConnectionRefusedError)
    unreachable = ServiceUnreachableError(_brief(error), never_sent=never_sent)
    return Translated(unreachable) if _is_transport_error(error) else None


def _from_auth(error: GoogleAuthError) -> Translated:
    if not _is_refusal(error):
        # Without a token, no request was sent.
        return Translated(ServiceUnreachableError(f"no access token: {_brief(error)}", never_sent=True))
    refused = PermissionDeniedError(
        401,
        "UNAUTHENTICATED",
        f"no access token was issued ({_brief(error)}).",
        "Check the key, the service account and the impersonation chain of the connection.",
    )
    return Translated(refused, credentials_refused=True)


def _from_api(error: object, project: str, location: str, model: str | None) -> Translated:
    code = int(getattr(error, "code", 0) or 0)
    status = str(getattr(error, "status", "") or "UNKNOWN")
    message = str(getattr(error, "message", "") or "no message").strip()
    if code == 404 and model is not None:
        return Translated(
            ModelNotFoundError(
                code,
                status,
                message,
                why_not_found(model, location, datetime.now(UTC).date())
                or f"Check that model is spelled correctly and available in {location!r}, and that project "
                f"{project!r} has access to it.",
            )
        )
    if code == 404:
        return Translated(
            JobNotFoundError(
                code,
                status,
                message,
                "The job was deleted, or it belongs to another project or location.",
            )
        )
    if code in (401, 403):
        return Translated(
            PermissionDeniedError(
                code,
                status,
                message,
                f"The connection's account needs roles/aiplatform.user on project {project!r}, "
                "and the Vertex AI API (aiplatform.googleapis.com) must be enabled there.",
            ),
            credentials_refused=True,
        )
    return Translated(ApiError(code, status, message))


@contextmanager
def reading_credentials(gcp_conn_id: str) -> Iterator[None]:
    """Translate what is raised while a connection is read and credentials are made from it.

    Airflow raises ``AirflowNotFoundException`` also while its API server or a secrets backend is down, and
    google-auth says that there are no default credentials while the metadata server is down.

    :raises CredentialsUnavailableError: whatever the reason
    """
    try:
        yield
    except GeminiBatchError:
        raise
    except Exception as error:
        # The text of other errors may quote the connection.
        is_safe = type(error).__module__.startswith(("airflow.", "google.auth."))
        reason = _brief(error) if is_safe else type(error).__name__
        raise CredentialsUnavailableError(gcp_conn_id, reason) from error


def _is_refusal(error: GoogleAuthError) -> bool:
    """Whether a token endpoint has refused these credentials, as opposed to failing for another reason.

    google-auth raises ``RefreshError`` for every response but 200. A refusal is an OAuth error, as in
    ``{"error": "invalid_grant"}``, or one of the IAM API, as in ``{"error": {"code": 403}}``; an outage is
    a page of HTML, or the IAM API's 5xx.
    """
    from google.auth import exceptions as auth

    if isinstance(error, auth.TransportError) or error.retryable:
        return False
    if not isinstance(error, auth.RefreshError):
        return True
    answer = error.args[1] if len(error.args) > 1 else None
    if isinstance(answer, (str, bytes)):
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            return False
    reason = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(reason, dict):
        return reason.get("code") not in (408, 429) and not str(reason.get("code")).startswith("5")
    return isinstance(reason, str)


def _is_transport_error(error: Exception) -> bool:
    roots = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return bool(roots & _TRANSPORTS) or isinstance(error, OSError)


def _brief(error: Exception) -> str:
    """Describe an error briefly: its full text may contain a token response or a request body."""
    if place := _unreached(error):
        return f"cannot connect to {place}"
    text = str(error.args[0]) if error.args else ""
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _unreached(error: Exception) -> str | None:
    """Return the address to which urllib3 got no connection; ``None`` if that is not what the error says."""
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    cause = error
    # google-auth wraps the error of requests, which wraps that of urllib3.
    while cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    if isinstance(cause, MaxRetryError) and isinstance(
        cause.reason, (NewConnectionError, ConnectTimeoutError)
    ):
        pool: Any = cause.pool
        return f"{pool.host}:{pool.port}"
    return None
