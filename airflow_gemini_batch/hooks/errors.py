"""Translates exceptions of google-genai and its transports into those of this package."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    JobNotFoundError,
    ModelNotFoundError,
    PermissionDeniedError,
    ServiceUnreachableError,
)

# The SDK does not wrap errors of its transport, and its transport has changed before (requests, httpx,
# aiohttp, httpx2), so these errors are recognized by the package that defines them.
_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "requests", "urllib3", "ssl"})
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "NewConnectionError"})


@dataclass(frozen=True)
class Translated:
    """The translated error, and whether the credentials were rejected."""

    error: GeminiBatchError
    credentials_refused: bool = False


def from_sdk(error: Exception, *, project: str, location: str, creating: bool) -> Translated | None:
    """Translate an exception; ``None`` if it comes from neither the service nor the network.

    :param creating: the request was a create, so a 404 means that the model was not found
    """
    from google.auth import exceptions as auth
    from google.genai import errors as genai_errors

    if isinstance(error, GeminiBatchError):
        return Translated(error)
    if isinstance(error, genai_errors.APIError):
        return _from_api(error, project, location, creating)
    if isinstance(error, auth.GoogleAuthError):
        if isinstance(error, auth.TransportError) or error.retryable:
            # Without a token, no request was sent.
            return Translated(ServiceUnreachableError(f"no access token: {_brief(error)}", never_sent=True))
        refused = PermissionDeniedError(
            401,
            "UNAUTHENTICATED",
            f"no access token was issued ({_brief(error)}).",
            "Check the key, the service account and the impersonation chain of the connection.",
        )
        return Translated(refused, credentials_refused=True)
    if _is_transport_error(error):
        never_sent = type(error).__name__ in _NEVER_SENT or isinstance(error, ConnectionRefusedError)
        return Translated(ServiceUnreachableError(_brief(error), never_sent=never_sent))
    return None


def _from_api(error: object, project: str, location: str, creating: bool) -> Translated:
    code = int(getattr(error, "code", 0) or 0)
    status = str(getattr(error, "status", "") or "UNKNOWN")
    message = str(getattr(error, "message", "") or "no message").strip()
    if code == 404 and creating:
        return Translated(
            ModelNotFoundError(
                code,
                status,
                message,
                f"Check that model is spelled correctly and available in {location!r}, and that project "
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


def _is_transport_error(error: Exception) -> bool:
    roots = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return bool(roots & _TRANSPORTS) or isinstance(error, OSError)


def _brief(error: Exception) -> str:
    """Describe an error briefly: its full text may contain a token response or a request body."""
    text = str(error.args[0]) if error.args else ""
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
