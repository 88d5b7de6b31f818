"""The service's errors in its own words: of a call (HTTP) and of a job (``google.rpc.Status``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

CANCELLED = 1
INVALID_ARGUMENT = 3
PERMISSION_DENIED = 7
FAILED_PRECONDITION = 9
INTERNAL = 13

DEEPEST_RECORD = 15


@dataclass(frozen=True)
class Violation:
    """One problem in a request body.

    :param field: path of the field in snake_case, such as ``batch_prediction_job.input_config``
    """

    field: str
    description: str


class CallError(Exception):
    """A call gets an error response.

    :param code: HTTP status code
    :param status: name of the ``google.rpc.Code``
    :param info: a ``google.rpc.ErrorInfo``
    """

    def __init__(
        self,
        code: int,
        status: str,
        message: str,
        violations: Sequence[Violation] = (),
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.status = status
        self.message = message
        self.violations = tuple(violations)
        self.info = info
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the response."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.violations:
            fields = [{"field": v.field, "description": v.description} for v in self.violations]
            error["details"] = [{"@type": _BAD_REQUEST, "fieldViolations": fields}]
        if self.info:
            error["details"] = [{"@type": _ERROR_INFO, **self.info}]
        return {"error": error}


class TokenError(CallError):
    """A request for a token gets an error response, in the format of OAuth."""

    def __init__(
        self, error: str, description: str, code: int = 400, status: str = "INVALID_ARGUMENT"
    ) -> None:
        self.error = error
        super().__init__(code, status, description)

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the response."""
        return {"error": self.error, "error_description": self.message}


class JobFailedError(Exception):
    """The job ends FAILED.

    :param code: number of the ``google.rpc.Code``
    """

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


def invalid_argument(message: str, violations: Sequence[Violation] = ()) -> CallError:
    """Return a 400 for a call with invalid arguments."""
    return CallError(400, "INVALID_ARGUMENT", message, violations)


def bad_body(violations: Sequence[Violation]) -> CallError:
    """Return the 400 of the JSON parser: unknown fields or wrong types."""
    return invalid_argument("\n".join(v.description for v in violations), violations)


def bad_fields(violations: Sequence[Violation]) -> CallError:
    """Return the 400 of the service: the fields parse, but their values are invalid."""
    found = "".join(
        f"\t{i}.Field: {v.field}; Message: {v.description}" for i, v in enumerate(violations, start=1)
    )
    return invalid_argument(f"List of found errors:{found}\t", violations)


def failed_precondition(message: str) -> CallError:
    """Return the 400 of a call that the state of the job does not allow."""
    return CallError(400, "FAILED_PRECONDITION", message)


def unauthenticated() -> CallError:
    """Return the 401 of a call without a token."""
    return CallError(
        401,
        "UNAUTHENTICATED",
        "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie "
        "or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
    )


def permission_denied(permission: str, resource: str) -> CallError:
    """Return the 403 of a caller without the permission."""
    return CallError(
        403,
        "PERMISSION_DENIED",
        f"Permission '{permission}' denied on resource '//aiplatform.googleapis.com/{resource}' "
        "(or it may not exist).",
    )


def job_not_found(name: str) -> CallError:
    """Return the 404 of a job that does not exist."""
    return CallError(404, "NOT_FOUND", f'The BatchPredictionJob "{name}" does not exist.')


def model_not_found(model: str) -> CallError:
    """Return the 404 of a publisher model.

    :param model: its full resource name
    """
    return CallError(
        404,
        "NOT_FOUND",
        f"Publisher Model `{model}` was not found or your project does not have access to it. "
        "Please ensure you are using a valid model version. For more information, see: "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
    )


def tuned_model_not_found(model: str) -> CallError:
    """Return the 404 of a model or endpoint of another project or location."""
    return CallError(404, "NOT_FOUND", f"The Model {model} does not exist.")


def unknown_url(path: str) -> CallError:
    """Return the 404 of a path without a method."""
    return CallError(404, "NOT_FOUND", f"The requested URL {path} was not found on this server.")


_OF_STATUS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: (
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
        "or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
    ),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "Requested entity was not found."),
    408: ("DEADLINE_EXCEEDED", "The request timed out."),
    409: ("ABORTED", "The operation was aborted."),
    412: ("FAILED_PRECONDITION", "Precondition check failed."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    499: ("CANCELLED", "The operation was cancelled."),
    500: ("INTERNAL", "Internal error encountered."),
    501: ("UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled."),
    502: ("UNAVAILABLE", "Bad gateway."),
    503: ("UNAVAILABLE", "The service is currently unavailable."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}

BAD_GATEWAY_PAGE = """<!DOCTYPE html>
<html lang=en>
  <meta charset=utf-8>
  <title>Error 502 (Server Error)!!1</title>
  <p><b>502.</b> <ins>That’s an error.</ins>
  <p>The server encountered a temporary error and could not complete your request.<p>Please try again in 30
  seconds.  <ins>That’s all we know.</ins>
"""


def of_status(code: int, *, at_token_endpoint: bool = False) -> CallError:
    """Return the generic error for an HTTP status."""
    status, message = _OF_STATUS[code]
    if at_token_endpoint:
        kind = "internal_failure" if code >= 500 else "invalid_grant"
        return TokenError(kind, message, code, status)
    return CallError(code, status, message)


def quota_exceeded(metric: str, limit: int, parent: str) -> CallError:
    """Return the 429 of too many calls in a minute.

    :param metric: without the name of the service
    :param limit: calls a minute
    :param parent: ``projects/P/locations/L``
    """
    service = "aiplatform.googleapis.com"
    _, project, _, location = parent.split("/")
    return CallError(
        429,
        "RESOURCE_EXHAUSTED",
        f"Quota exceeded for {service}/{metric}. Please submit a quota increase request. "
        "https://cloud.google.com/vertex-ai/docs/quotas.",
        info={
            "reason": "RATE_LIMIT_EXCEEDED",
            "domain": "googleapis.com",
            "metadata": {
                "consumer": f"projects/{project}",
                "service": service,
                "quota_metric": f"{service}/{metric}",
                "quota_limit_value": str(limit),
                "quota_location": location,
            },
        },
    )


_FAILURES = {
    INVALID_ARGUMENT: "Failed to import data. Please check 'Prepare input' section of the batch predictions "
    "documentation.",
    PERMISSION_DENIED: "Service account service-1@gcp-sa-aiplatform.iam.gserviceaccount.com doesn't have "
    'sufficient permission "storage.objects.create" on the output bucket.',
    FAILED_PRECONDITION: "Failed to get GCS bucket location for the output bucket. "
    "Please check that the bucket exists and permissions are set correctly.",
    INTERNAL: "System error. Please try this operation again.",
}


def of_state(state: JobState, code: int = INTERNAL) -> JobFailedError | None:
    """Return the error of a job that ends in a state; EXPIRED has none.

    :param code: of a job that ends as FAILED: 3, 7, 9 or 13
    """
    if state is JobState.FAILED:
        return JobFailedError(code, _FAILURES[code])
    return JobFailedError(CANCELLED, "CANCELED") if state is JobState.CANCELLED else None


def bucket_not_found(bucket: str) -> JobFailedError:
    """Return the failure of a job whose bucket does not exist; the service notices only after create."""
    return JobFailedError(
        FAILED_PRECONDITION,
        f"Failed to get GCS bucket location for {bucket}. "
        "Please check that the bucket exists and permissions are set correctly.",
    )


def import_failed(cause: str) -> JobFailedError:
    """Return the failure of a job whose input cannot be imported; no row is processed."""
    return JobFailedError(
        INVALID_ARGUMENT,
        "Failed to import data. Please check 'Prepare input' section of the batch predictions "
        f"documentation. {cause}",
    )


def nested_too_deeply(depth: int) -> JobFailedError:
    """Return the failure of a job with a row whose objects are nested too deeply."""
    return import_failed(
        "Error while reading data, error message: Schema nested too deeply, at least "
        f"{depth} compared to the maximum allowed level of {DEEPEST_RECORD}"
    )


def system_error() -> JobFailedError:
    """Return the failure of a job for a reason that the service does not name."""
    return JobFailedError(INTERNAL, _FAILURES[INTERNAL])


def export_failed(cause: str) -> JobFailedError:
    """Return the failure of a job whose output cannot be written."""
    return JobFailedError(INTERNAL, f"Failed to export data. {cause}")
