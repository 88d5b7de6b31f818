"""What the SDK and its transports raise → our errors."""

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

# The SDK lets the errors of its transport through, and which transport it uses has changed before
# (requests, httpx, aiohttp, httpx2): they are told by where they come from.
_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "requests", "urllib3", "ssl"})
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "NewConnectionError"})


@dataclass(frozen=True)
class Translated:
    """Our error, and whether it says that the credentials are no good."""

    error: GeminiBatchError
    credentials_refused: bool = False


def from_sdk(error: Exception, *, project: str, location: str, creating: bool) -> Translated | None:
    """Translate, or ``None`` for an error that is neither the service's nor the network's.

    :param creating: the request was to create a job: what is not found is then the model
    """
    from google.auth import exceptions as auth
    from google.genai import errors as genai_errors

    if isinstance(error, GeminiBatchError):
        return Translated(error)
    if isinstance(error, genai_errors.APIError):
        return _from_api(error, project, location, creating)
    if isinstance(error, auth.GoogleAuthError):
        if isinstance(error, auth.TransportError) or error.retryable:
            # No token, so no request.
            return Translated(ServiceUnreachableError(f"no access token: {_brief(error)}", never_sent=True))
        refused = PermissionDeniedError(
            401,
            "UNAUTHENTICATED",
            f"no access token could be had ({_brief(error)}).",
            "Check the key, the service account or the impersonation chain of the connection.",
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
                f"Check the spelling of model, that {location!r} serves it, and that project {project!r} "
                "may use it.",
            )
        )
    if code == 404:
        return Translated(
            JobNotFoundError(
                code,
                status,
                message,
                "The job was deleted, or the name belongs to another project or location.",
            )
        )
    if code in (401, 403):
        return Translated(
            PermissionDeniedError(
                code,
                status,
                message,
                f"The account of the connection needs roles/aiplatform.user on project {project!r}, "
                "and the Vertex AI API (aiplatform.googleapis.com) must be enabled there.",
            ),
            credentials_refused=True,
        )
    return Translated(ApiError(code, status, message))


def _is_transport_error(error: Exception) -> bool:
    roots = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return bool(roots & _TRANSPORTS) or isinstance(error, OSError)


def _brief(error: Exception) -> str:
    """Name an error without what it may carry: a token answer or a request body."""
    text = str(error.args[0]) if error.args else ""
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
