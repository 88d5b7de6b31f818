"""Reads Google's REST APIs. Nothing here can change anything: see :meth:`GoogleApi.ask`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_gemini_batch.doctor.facts import Cause, Problem
from airflow_gemini_batch.messages import without_quoted_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

APIS_URL = "GEMINI_BATCH_APIS_URL"
"""Environment variable with the URL of an emulator of these APIs, which takes ``/HOST/PATH``."""

_TIMEOUT_SECONDS = 30.0
# POST is the verb of these methods, though they only read.
_READING_POSTS = re.compile(r".*:(testIamPermissions|getIamPolicy)|bigquery/v2/projects/[^/]+/queries")


class GoogleApi:
    """Google's REST APIs, with the credentials of one caller.

    :param credentials: of google-auth
    """

    def __init__(self, credentials: Credentials) -> None:
        from google.auth.transport.requests import AuthorizedSession

        self._session: AuthorizedSession = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the connections."""
        self._session.close()  # type: ignore[no-untyped-call]

    def get(self, host: str, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any] | Problem:
        """GET a resource; a list in the query is sent as several parameters."""
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        return self._send("GET", host, target, None)

    def ask(self, host: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | Problem:
        """POST a question: permissions to test, a policy to read, or a statement for a dry run.

        :raises ValueError: the method would change something
        """
        is_query = path.endswith("/queries")
        if not _READING_POSTS.fullmatch(path) or (is_query and body.get("dryRun") is not True):
            raise ValueError(f"{path} is no method that only reads")
        return self._send("POST", host, path, body)

    def _send(
        self, method: str, host: str, target: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any] | Problem:
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        base = os.environ.get(APIS_URL)
        url = f"{base}/{host}/{target}" if base else f"https://{host}/{target}"
        try:
            response = self._session.request(  # type: ignore[no-untyped-call]
                method, url, json=body, timeout=_TIMEOUT_SECONDS
            )
            content = response.json()
        except GoogleAuthError as error:
            return Problem(Cause.NO_CREDENTIALS, f"No access token was issued ({type(error).__name__}).")
        except (RequestException, RecursionError) as error:
            return Problem(Cause.UNREACHABLE, f"{host} gave no readable answer ({type(error).__name__}).")
        if response.ok and isinstance(content, dict):
            return content
        return problem_of(response.status_code, content, host)


def problem_of(code: int, content: object, host: str) -> Problem:
    """Return what an error response means.

    :param content: its JSON
    """
    error = content.get("error") if isinstance(content, dict) else None
    error = error if isinstance(error, dict) else {}
    message = without_quoted_text(str(error.get("message") or "no message")).strip()
    text = f"{host} returned {code}: {message}"
    info = _error_info(error)
    if code == 403 and info.get("reason") == "SERVICE_DISABLED":
        service = str((info.get("metadata") or {}).get("service") or host)
        return Problem(Cause.DISABLED, f"{service} is not enabled.", service)
    cause = {401: Cause.NO_CREDENTIALS, 403: Cause.DENIED, 404: Cause.ABSENT}.get(code, Cause.UNREACHABLE)
    return Problem(cause, text if text.endswith(".") else f"{text}.")


def _error_info(error: Mapping[str, Any]) -> Mapping[str, Any]:
    details = error.get("details")
    found = [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    return next((each for each in found if each.get("reason")), {})
