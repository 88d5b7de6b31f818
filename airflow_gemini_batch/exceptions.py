"""The errors of this package. Each keeps its facts as attributes.

::

    GeminiBatchError
    ├── InvalidParameterError      a parameter has an invalid value; nothing was created
    │   └── ResponseSchemaError    a response schema that has no equivalent table columns
    ├── AirflowVersionError        this needs a later Airflow
    ├── ApiError                   Vertex AI returned an error
    │   ├── ModelNotFoundError
    │   ├── JobNotFoundError
    │   └── PermissionDeniedError
    ├── ServiceUnreachableError    no response: connection failed, timed out, or no access token
    │   └── UnreadableResponseError  a response that is not what the API describes
    ├── CredentialsUnavailableError  the Airflow connection or its credentials could not be read
    ├── PollingError               the job could not be read, several times in a row
    ├── SubmissionOutcomeUnknownError  it is unknown whether a job was created
    ├── SubmitTimeoutError         the quota had no room for the job until submit_timeout; nothing was created
    ├── SubmitStoppedError         the task was stopped before its job was created
    ├── JobConflictError           this task run already has a job with a different request
    ├── OtherInstallationError     the job is not known to be one of this Airflow; it was left alone
    ├── DeletionRefusedError       the job has not ended, or ended too recently; it was not deleted
    ├── CostLimitError             the job may cost more than allowed; nothing was created
    ├── BigQueryError              BigQuery refused a request
    ├── RequestsError              the requests could not be built or stored; nothing was submitted
    ├── JobEndedError              the job ended without succeeding
    ├── WaitTimeoutError           the deadline passed before the job ended
    ├── LandingError               the results could not be landed
    │   ├── OutputNotFoundError    the job left no output to land
    │   ├── DatasetNotFoundError
    │   ├── LocationMismatchError
    │   ├── TableMismatchError     the existing table has incompatible columns
    │   ├── KeylessRowsError       a merge would drop answers, because requests without a key are equal
    │   ├── MediaError             generated media could not be stored in Cloud Storage
    │   └── RowCountError          the row counts do not add up to the rows of the input
    ├── ReportError                the HTML report of a landed job could not be written
    └── QualityGateError           the results are landed but miss a quality threshold
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.messages import without_quoted_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from typing import Any, Protocol

    class Job(Protocol):
        """What an error offers of a job: a :class:`~airflow_gemini_batch.batch_job.BatchJob`."""

        @property
        def name(self) -> object:
            """``str(job.name)`` is the full resource name."""

        @property
        def state(self) -> str:
            """The job state, such as ``JOB_STATE_FAILED``."""

        @property
        def output_location(self) -> str | None:
            """``gs://…`` or ``bq://…``; ``None`` if no output was written."""

    class Estimate(Protocol):
        """What an error offers of an estimate: an :class:`~airflow_gemini_batch.cost.estimate.Estimate`."""

        @property
        def rows(self) -> int:
            """Requests in the input."""

        @property
        def reasons(self) -> Sequence[str]:
            """How reliable the estimate is and why, one sentence each."""

        def to_dict(self) -> dict[str, Any]:
            """Tokens and cost as JSON types."""


class GeminiBatchError(Exception):
    """Base class of every error that this package raises on purpose."""

    @property
    def is_transient(self) -> bool:
        """Whether the same request to Vertex AI may succeed later."""
        return False


@dataclass(frozen=True)
class Described:
    """What an error says about a value instead of showing it: ``is of type dict``."""

    text: str

    def __str__(self) -> str:
        return self.text


def shown_or_type(value: object) -> object:
    """Return what an error says of a value that may be a prompt or a secret: itself only if it cannot be."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return Described(f"is of type {type(value).__name__}")


class InvalidParameterError(GeminiBatchError, ValueError):
    """A parameter has an invalid value.

    :param value: as it is shown; a :class:`Described` says something about it instead
    :param fix: what to give instead
    """

    def __init__(self, parameter: str, value: object, fix: str) -> None:
        self.parameter = parameter
        self.value = value
        self.fix = fix
        what = f" {value}" if isinstance(value, Described) else f"={value!r}"
        super().__init__(f"{parameter}{what}: {fix}{_template_hint(value)}")


def _template_hint(value: object) -> str:
    """Return what a template may have to do with a value; empty if nothing."""
    if value in ("None", ""):
        return "; a template without a value renders to this"
    if isinstance(value, str) and value.startswith(("['", '["', "LazyXCom")):
        return (
            ". A template made text of a list: pass the task's output without a template, or set "
            "render_template_as_native_obj=True on the DAG"
        )
    return ""


class ResponseSchemaError(InvalidParameterError):
    """A response schema cannot be mapped to table columns.

    :param path: JSON path inside the schema, such as ``$.properties.tags``
    """

    def __init__(self, path: str, value: object, fix: str) -> None:
        self.path = path
        super().__init__(f"response_schema at {path}", value, fix)


class AirflowVersionError(GeminiBatchError):
    """What a DAG uses needs a later Airflow.

    :param needed: the lowest version of Airflow that has it
    """

    def __init__(self, what: str, needed: str, instead: str) -> None:
        self.what = what
        self.needed = needed
        super().__init__(f"{what} needs Airflow {needed} or later; {instead}")


class ApiError(GeminiBatchError):
    """Vertex AI returned an error.

    :param code: HTTP status code
    :param status: the service's error status, such as ``PERMISSION_DENIED``
    :param message: the service's message, without the text that it quotes
    :param advice: what the user can do, if known
    """

    def __init__(self, code: int, status: str, message: str, advice: str = "") -> None:
        self.code = code
        self.status = status
        self.message = without_quoted_text(message)
        self.advice = advice
        text = f"Vertex AI returned {code} {status}: {self.message}"
        super().__init__(f"{text} {advice}" if advice else text)

    @property
    def is_over_quota(self) -> bool:
        """Whether a quota had no room for the request: 429."""
        return self.code == 429

    @property
    def is_transient(self) -> bool:
        """Whether the request may succeed later: 408, 429, 499, every 5xx, and ABORTED, which is a 409."""
        return self.is_over_quota or self.code in (408, 499) or self.status == "ABORTED" or self.code >= 500


class ModelNotFoundError(ApiError):
    """The model does not exist in that location, or the project has no access to it."""


class JobNotFoundError(ApiError):
    """There is no job with that name."""


class PermissionDeniedError(ApiError):
    """The connection's credentials were rejected, or lack a permission."""


class ServiceUnreachableError(GeminiBatchError):
    """There was no response: the connection failed, timed out, or no access token was available.

    :param never_sent: whether it is certain that the request did not reach the service
    """

    def __init__(self, reason: str, *, never_sent: bool = False, service: str = "Vertex AI") -> None:
        self.reason = reason
        self.never_sent = never_sent
        super().__init__(f"No response from {service}: {reason}")

    @property
    def is_transient(self) -> bool:
        """Always true."""
        return True


class UnreadableResponseError(ServiceUnreachableError):
    """The service, or a proxy before it, sent a response that is not what the API describes.

    What was requested may have happened, as after a response that is lost.

    :param received: what was sent instead
    """

    def __init__(self, received: str) -> None:
        self.received = received
        super().__init__(received)
        self.args = (f"Vertex AI sent a response that cannot be read: {received}.",)

    @property
    def is_transient(self) -> bool:
        """Always false, but the next response may be fine."""
        return False


class CredentialsUnavailableError(GeminiBatchError):
    """Airflow did not return the connection, or no credentials could be made from it. Nothing was sent.

    :param gcp_conn_id: the connection
    :param reason: the error of Airflow or google-auth
    """

    def __init__(self, gcp_conn_id: str, reason: str) -> None:
        self.gcp_conn_id = gcp_conn_id
        self.reason = reason
        super().__init__(
            f"The credentials of the Airflow connection {gcp_conn_id!r} cannot be read: {reason}."
        )

    @property
    def is_transient(self) -> bool:
        """Always true: to Airflow, a connection is undefined also while a secrets backend is down."""
        return True


class PollingError(GeminiBatchError):
    """The job could not be read, several times in a row.

    :param job_name: full resource name
    :param reason: the last error, and what it says about the job
    :param is_transient: whether a retry of the task may help, without creating another job
    """

    def __init__(self, job_name: str, reason: str, *, is_transient: bool) -> None:
        self.job_name = job_name
        self.reason = reason
        self._is_transient = is_transient
        super().__init__(f"The batch job {job_name} cannot be read: {reason}")

    @property
    def is_transient(self) -> bool:
        """Whether a retry of the task may help."""
        return self._is_transient


class BigQueryError(GeminiBatchError):
    """BigQuery refused a request, or the job that it started failed.

    :param reason: code, reason and what is safe to show of BigQuery's message
    :param is_transient: whether the same request may succeed later
    """

    def __init__(self, reason: str, *, is_transient: bool = False) -> None:
        self.reason = reason
        self._is_transient = is_transient
        super().__init__(f"BigQuery returned {reason}")

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later; known only of looks at jobs."""
        return self._is_transient


class SubmissionOutcomeUnknownError(GeminiBatchError):
    """The response to a create was lost, and looking the job up did not show whether it exists.

    :param display_name: the display name that the job has if it exists
    """

    def __init__(self, display_name: str, parent: str, reason: str) -> None:
        self.display_name = display_name
        self.parent = parent
        self.reason = reason
        super().__init__(
            f"Cannot tell whether the batch job {display_name!r} was created in {parent}: {reason}. "
            "It may be running and costing money. Retrying this task is safe: it first looks the job up by "
            "that name, attaches to it if it exists, and creates it only if it does not."
        )


class SubmitTimeoutError(GeminiBatchError):
    """The quota of create requests had no room until ``submit_timeout`` had passed. Nothing was created.

    :param error: the last refusal
    """

    def __init__(self, waited: str, refusals: int, error: ApiError) -> None:
        self.error = error
        times = "once" if refusals == 1 else f"{refusals} times"
        super().__init__(
            f"No batch job was created: Vertex AI refused the request {times} in {waited} (submit_timeout). "
            f"A retry of this task tries again. Set a longer submit_timeout, or let fewer "
            f"tasks submit at the same time. {error}"
        )

    @property
    def is_transient(self) -> bool:
        """Always true."""
        return True


class SubmitStoppedError(GeminiBatchError):
    """The task was stopped before it sent the request to create its job. Nothing was created."""

    def __init__(self) -> None:
        super().__init__("This task was stopped before its batch job was created. Nothing was created.")


class JobConflictError(GeminiBatchError):
    """This task run already has a job, created with a different input, output or model."""

    def __init__(self, job: Job, reason: str) -> None:
        self.job = job
        super().__init__(reason)


class OtherInstallationError(GeminiBatchError):
    """The job is not known to be one of this Airflow installation, so it is neither cancelled nor deleted."""

    def __init__(self, job: Job, reason: str) -> None:
        self.job = job
        self.reason = reason
        super().__init__(
            f"The batch job {job.name} {reason}, so it is left alone. If you mean it, set "
            "any_installation=True."
        )


class DeletionRefusedError(GeminiBatchError):
    """The job has not ended, or ended so recently that a task may still need it. It is not deleted."""

    def __init__(self, job: Job, reason: str) -> None:
        self.job = job
        self.reason = reason
        super().__init__(f"The batch job {job.name} ({job.state}) is not deleted: {reason}")


class CostLimitError(GeminiBatchError):
    """The job may cost more than ``max_cost_usd``, or its cost cannot be estimated. Nothing was created.

    :param limit: in US dollars
    :param estimate: tokens and cost, and how reliable they are
    """

    def __init__(self, limit: Decimal, estimate: Estimate, explanation: str) -> None:
        self.limit = limit
        self.estimate = estimate
        super().__init__(explanation)


class RequestsError(GeminiBatchError):
    """The requests could not be built or stored. Nothing was submitted."""


class JobEndedError(GeminiBatchError):
    """The job ended without succeeding.

    :param job: the job as last read, with its counts and output location
    :param may_run_again: nothing is charged, and the same job may succeed later
    """

    def __init__(self, job: Job, explanation: str, *, may_run_again: bool = False) -> None:
        self.job = job
        self.may_run_again = may_run_again
        super().__init__(explanation)


class WaitTimeoutError(GeminiBatchError):
    """The deadline passed before the job ended."""

    def __init__(self, job_name: str, explanation: str) -> None:
        self.job_name = job_name
        super().__init__(explanation)


class LandingError(GeminiBatchError):
    """The results could not be landed."""


class OutputNotFoundError(LandingError):
    """The job left no output to land."""

    def __init__(self, job: Job, explanation: str) -> None:
        self.job = job
        super().__init__(explanation)


class DatasetNotFoundError(LandingError):
    """The destination dataset does not exist."""

    def __init__(self, dataset: str, location: str) -> None:
        self.dataset = dataset
        self.location = location
        super().__init__(
            f"BigQuery dataset {dataset} does not exist. Create it in a location that can read the job's "
            f"output, for example: bq --location={location} mk --dataset {dataset.replace('.', ':', 1)}"
        )


class LocationMismatchError(LandingError):
    """Two resources that BigQuery must read together are in different locations."""

    def __init__(self, what: str, location: str, other: str, other_location: str, fix: str) -> None:
        self.what = what
        self.location = location
        self.other = other
        self.other_location = other_location
        super().__init__(f"{what} is in {location}, but {other} is in {other_location}. {fix}")


class TableMismatchError(LandingError):
    """The table exists, and its columns do not match the rows to write.

    :param differences: a sentence per column
    """

    def __init__(self, table: str, differences: Sequence[str]) -> None:
        self.table = table
        self.differences = tuple(differences)
        super().__init__(f"Table {table} cannot store these rows: " + "; ".join(self.differences))


class KeylessRowsError(LandingError):
    """Rows without a key have equal requests, so a merge would keep one of their answers and drop the others.

    :param table: the results table
    :param rows: how many rows have no key and a request that another of them has too
    """

    def __init__(self, table: str, rows: int) -> None:
        self.table = table
        self.rows = rows
        super().__init__(
            f"{rows:,} rows have no key, and each has the same request as another of them. "
            f'write_mode="merge" keeps one row per key, so {table} would lose answers that are paid. Nothing '
            "was landed. If another member than `key` holds the keys, name it in key_field; otherwise land "
            'with write_mode="append", and give each request its own key in the next job.'
        )


class MediaError(LandingError):
    """Media from a response could not be stored in Cloud Storage.

    :param uri: of the object
    :param code: HTTP status code
    :param reason: Cloud Storage's message
    """

    def __init__(self, uri: str, code: int, reason: str) -> None:
        self.uri = uri
        self.code = code
        self.reason = reason
        bucket = uri.removeprefix("gs://").partition("/")[0]
        fix = {
            403: f" Grant the connection's account roles/storage.objectCreator on the bucket {bucket}.",
            404: f" The bucket {bucket} of media_uri_prefix does not exist; create it.",
        }
        super().__init__(
            f"An image from a response could not be stored as {uri}: {code} {reason}{fix.get(code, '')} "
            "Nothing was landed. A retry costs nothing, and keeps the images that are already stored."
        )


class RowCountError(LandingError):
    """The row counts do not add up to the rows of the input. The good rows are in the table.

    :param manifest: the manifest that the task would have returned
    """

    def __init__(self, explanation: str, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        super().__init__(explanation)


class ReportError(GeminiBatchError):
    """The HTML report of a landed job could not be written. The rows are in the table."""


class QualityGateError(GeminiBatchError):
    """The results are landed, but the share of good or invalid rows misses its threshold.

    :param gate: the parameter that sets the threshold
    :param limit: its value, between 0 and 1
    :param ratio: the actual share
    :param manifest: the manifest that the task would have returned
    """

    def __init__(
        self, explanation: str, *, gate: str, limit: float, ratio: float, manifest: dict[str, Any]
    ) -> None:
        self.gate = gate
        self.limit = limit
        self.ratio = ratio
        self.manifest = manifest
        super().__init__(explanation)
