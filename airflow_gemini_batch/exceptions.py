"""The errors of this package. Each keeps its facts as attributes.

::

    GeminiBatchError
    ├── InvalidParameterError      a value that cannot work; raised before anything is created
    │   └── ResponseSchemaError    a response schema that has no table columns, with the path
    ├── ApiError                   Vertex AI answered with an error
    │   ├── ModelNotFoundError
    │   ├── JobNotFoundError
    │   └── PermissionDeniedError
    ├── ServiceUnreachableError    no answer: connection, time-out, token endpoint
    ├── SubmissionOutcomeUnknownError  nobody can say whether a job was created
    ├── JobConflictError           this task run already has a job, for other input
    ├── CostLimitError             the job may cost more than allowed; nothing was created
    ├── RequestsError              the requests could not be built or stored; nothing was submitted
    ├── JobEndedError              the job is over and did not succeed
    ├── WaitTimeoutError           the job is not over and the deadline has passed
    ├── LandingError               the results could not be landed
    │   ├── OutputNotFoundError    the job left no output to land
    │   ├── DatasetNotFoundError
    │   ├── LocationMismatchError
    │   ├── TableMismatchError     the table that exists has other columns
    │   ├── MediaError             images of answers could not be stored in Cloud Storage
    │   └── RowCountError          the buckets do not add up to the rows of the input
    ├── ReportError                the page about a landed job could not be made
    └── QualityGateError           the results are landed, and fewer of them are good than was asked for
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.cost.estimate import Estimate


class GeminiBatchError(Exception):
    """Root of every error that this package raises on purpose."""

    @property
    def is_transient(self) -> bool:
        """Whether the same request to Vertex AI may succeed later."""
        return False


class InvalidParameterError(GeminiBatchError, ValueError):
    """A parameter has a value that cannot work."""

    def __init__(self, parameter: str, value: object, fix: str) -> None:
        self.parameter = parameter
        self.value = value
        self.fix = fix
        super().__init__(f"{parameter}={value!r}: {fix}")


class ResponseSchemaError(InvalidParameterError):
    """A response schema cannot be turned into table columns.

    :param path: JSON path inside the schema, such as ``$.properties.tags``
    """

    def __init__(self, path: str, value: object, fix: str) -> None:
        self.path = path
        super().__init__(f"response_schema at {path}", value, fix)


class ApiError(GeminiBatchError):
    """Vertex AI answered with an error.

    :param code: HTTP status code
    :param status: the service's name for it, such as ``PERMISSION_DENIED``
    :param message: the service's own words
    :param advice: what the user can do, if we know
    """

    def __init__(self, code: int, status: str, message: str, advice: str = "") -> None:
        self.code = code
        self.status = status
        self.message = message
        self.advice = advice
        super().__init__(f"Vertex AI answered {code} {status}: {message}" + (f" {advice}" if advice else ""))

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later: 408, 429 and every 5xx."""
        return self.code in (408, 429) or self.code >= 500


class ModelNotFoundError(ApiError):
    """The model does not exist in that location, or the project may not use it."""


class JobNotFoundError(ApiError):
    """There is no job of that name."""


class PermissionDeniedError(ApiError):
    """The credentials of the connection may not do that."""


class ServiceUnreachableError(GeminiBatchError):
    """No answer came: the connection failed, timed out, or no access token could be had.

    :param never_sent: whether it is certain that the service has not seen the request
    """

    def __init__(self, reason: str, *, never_sent: bool = False) -> None:
        self.reason = reason
        self.never_sent = never_sent
        super().__init__(f"Vertex AI did not answer: {reason}")

    @property
    def is_transient(self) -> bool:
        """Always."""
        return True


class SubmissionOutcomeUnknownError(GeminiBatchError):
    """The answer to a create was lost, and looking the job up did not settle whether it exists.

    :param display_name: the display name that the job carries if it exists
    """

    def __init__(self, display_name: str, parent: str, reason: str) -> None:
        self.display_name = display_name
        self.parent = parent
        self.reason = reason
        super().__init__(
            f"Whether the batch job {display_name!r} was created in {parent} is not known: {reason}. "
            "It may be running and cost money. Retrying this task is safe: it looks the job up by that "
            "name first, attaches to it when it is there and creates it only when it is not."
        )


class JobConflictError(GeminiBatchError):
    """This task run already has a job, and that job was made for other input, output or model."""

    def __init__(self, job: BatchJob, reason: str) -> None:
        self.job = job
        super().__init__(reason)


class CostLimitError(GeminiBatchError):
    """The job may cost more than ``max_cost_usd``, or nobody can say. Nothing was created.

    :param limit: in US dollars
    :param estimate: tokens and cost, and how sure they are
    """

    def __init__(self, limit: Decimal, estimate: Estimate, explanation: str) -> None:
        self.limit = limit
        self.estimate = estimate
        super().__init__(explanation)


class RequestsError(GeminiBatchError):
    """The requests could not be built or stored. Nothing was submitted."""


class JobEndedError(GeminiBatchError):
    """The job is over and did not succeed.

    :param job: the job as last read, with its counts and the place of its output
    """

    def __init__(self, job: BatchJob, explanation: str) -> None:
        self.job = job
        super().__init__(explanation)


class WaitTimeoutError(GeminiBatchError):
    """The deadline has passed and the job is not over."""

    def __init__(self, job_name: str, explanation: str) -> None:
        self.job_name = job_name
        super().__init__(explanation)


class LandingError(GeminiBatchError):
    """The results could not be landed."""


class OutputNotFoundError(LandingError):
    """The job left no output that could be landed."""

    def __init__(self, job: BatchJob, explanation: str) -> None:
        self.job = job
        super().__init__(explanation)


class DatasetNotFoundError(LandingError):
    """The dataset of the destination does not exist."""

    def __init__(self, dataset: str, location: str) -> None:
        self.dataset = dataset
        self.location = location
        super().__init__(
            f"BigQuery dataset {dataset} does not exist. Create it in a location that can read the job's "
            f"output, for example: bq --location={location} mk --dataset {dataset.replace('.', ':', 1)}"
        )


class LocationMismatchError(LandingError):
    """Two things that BigQuery must read together lie in different locations."""

    def __init__(self, what: str, location: str, other: str, other_location: str, fix: str) -> None:
        self.what = what
        self.location = location
        self.other = other
        self.other_location = other_location
        super().__init__(f"{what} is in {location}, but {other} is in {other_location}. {fix}")


class TableMismatchError(LandingError):
    """The destination exists and its columns differ from what would be written.

    :param differences: a sentence per column
    """

    def __init__(self, table: str, differences: Sequence[str]) -> None:
        self.table = table
        self.differences = tuple(differences)
        super().__init__(f"Table {table} cannot take the results: " + "; ".join(self.differences))


class MediaError(LandingError):
    """Media of an answer could not be stored in Cloud Storage.

    :param uri: of the object
    :param code: HTTP status
    :param reason: Cloud Storage's own words
    """

    def __init__(self, uri: str, code: int, reason: str) -> None:
        self.uri = uri
        self.code = code
        self.reason = reason
        bucket = uri.removeprefix("gs://").partition("/")[0]
        fix = {
            403: f" Give the account of the connection roles/storage.objectCreator on the bucket {bucket}.",
            404: f" The bucket {bucket} of media_uri_prefix does not exist; make it.",
        }
        super().__init__(
            f"An image of an answer could not be stored as {uri}: {code} {reason}{fix.get(code, '')} Nothing "
            "was landed. A retry pays nothing, and images that are stored stay as they are."
        )


class RowCountError(LandingError):
    """The buckets do not add up to the rows of the input. The good rows are in the table.

    :param manifest: the manifest that would have been returned
    """

    def __init__(self, explanation: str, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        super().__init__(explanation)


class ReportError(GeminiBatchError):
    """The page about a landed job could not be made. Its rows are safe."""


class QualityGateError(GeminiBatchError):
    """The results are landed, and the share of good or of invalid rows is beyond its limit.

    :param gate: the parameter that sets the limit
    :param limit: its value, between 0 and 1
    :param ratio: what was found
    :param manifest: the manifest that would have been returned
    """

    def __init__(
        self, explanation: str, *, gate: str, limit: float, ratio: float, manifest: dict[str, Any]
    ) -> None:
        self.gate = gate
        self.limit = limit
        self.ratio = ratio
        self.manifest = manifest
        super().__init__(explanation)
