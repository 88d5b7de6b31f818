"""A Vertex AI batch prediction job: its name, states and counts.

Field names and states are those of the REST resource
``projects.locations.batchPredictionJobs`` (discovery document ``aiplatform.v1``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.messages import without_quoted_text

if TYPE_CHECKING:
    from collections.abc import Mapping


class JobState(StrEnum):
    """The twelve states of a batch prediction job; each value is the name in the REST API."""

    UNSPECIFIED = "JOB_STATE_UNSPECIFIED"
    QUEUED = "JOB_STATE_QUEUED"
    PENDING = "JOB_STATE_PENDING"
    RUNNING = "JOB_STATE_RUNNING"
    SUCCEEDED = "JOB_STATE_SUCCEEDED"
    FAILED = "JOB_STATE_FAILED"
    CANCELLING = "JOB_STATE_CANCELLING"
    CANCELLED = "JOB_STATE_CANCELLED"
    PAUSED = "JOB_STATE_PAUSED"
    EXPIRED = "JOB_STATE_EXPIRED"
    UPDATING = "JOB_STATE_UPDATING"
    PARTIALLY_SUCCEEDED = "JOB_STATE_PARTIALLY_SUCCEEDED"

    @classmethod
    def parse(cls, value: str | None) -> JobState:
        """Parse a state as the service sends it; an unknown one becomes ``UNSPECIFIED``.

        A state that the service adds later must not break a waiting task: it keeps waiting.
        """
        try:
            return cls(value or "")
        except ValueError:
            return cls.UNSPECIFIED

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended. A CANCELLING job has not: it may still succeed or fail."""
        return self in _TERMINAL

    @property
    def is_success(self) -> bool:
        """Whether the job succeeded; individual rows may still have failed."""
        return self in (JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED)

    def __str__(self) -> str:
        return self.value


_TERMINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.PARTIALLY_SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.EXPIRED,
    }
)

OUTPUT_COLUMNS = ("response", "status")
"""Columns that a job adds to its output table; an input table may not have them."""

UNSUPPORTED_TYPES = ("STRUCT", "RECORD", "RANGE", "DATETIME", "GEOGRAPHY")
"""BigQuery types that a job refuses in its input table; arrays are refused as well."""

IMPORT_FAILED = 3
"""Code of a job's error if the service rejected the whole input: no row is processed, nothing is charged."""

_JOB_NAME = re.compile(r"projects/([^/\s]+)/locations/([^/\s]+)/batchPredictionJobs/([^/\s]+)")


@dataclass(frozen=True)
class JobName:
    """``projects/{project}/locations/{location}/batchPredictionJobs/{job_id}``, parsed."""

    project: str
    location: str
    job_id: str

    @classmethod
    def parse(cls, name: str, parameter: str = "job_name") -> JobName:
        """Parse a full resource name.

        :raises InvalidParameterError: ``name`` is not a full resource name
        """
        match = _JOB_NAME.fullmatch(name) if isinstance(name, str) else None
        if not match:
            raise InvalidParameterError(
                parameter,
                name,
                "give the full resource name that GeminiBatchSubmitOperator returns, "
                "projects/PROJECT/locations/LOCATION/batchPredictionJobs/ID",
            )
        return cls(*match.groups())

    @property
    def parent(self) -> str:
        """``projects/{project}/locations/{location}``."""
        return f"projects/{self.project}/locations/{self.location}"

    def __str__(self) -> str:
        return f"{self.parent}/batchPredictionJobs/{self.job_id}"


@dataclass(frozen=True)
class CompletionStats:
    """Rows processed so far. ``None`` if the service does not report a count (it sends ``-1`` or nothing)."""

    successful: int | None = None
    failed: int | None = None
    incomplete: int | None = None

    @classmethod
    def from_resource(cls, stats: Mapping[str, Any] | None) -> CompletionStats:
        """Parse ``completionStats``, which may be absent. Its counts are strings and may be ``-1``.

        A count missing from a present object is zero: protobuf JSON omits zeros.
        """
        if stats is None:
            return cls()

        def count(field: str) -> int | None:
            value = int(stats.get(field) or 0)
            return None if value < 0 else value

        return cls(count("successfulCount"), count("failedCount"), count("incompleteCount"))

    def __str__(self) -> str:
        known = {"succeeded": self.successful, "failed": self.failed, "incomplete": self.incomplete}
        return ", ".join(f"{n:,} {what}" for what, n in known.items() if n is not None) or "no counts yet"


@dataclass(frozen=True)
class JobError:
    """``google.rpc.Status`` of a failed or cancelled job; the message without the text that it quotes."""

    code: int
    message: str


@dataclass(frozen=True)
class BatchJob:
    """One batch prediction job as last read from the service.

    :param input_uris: one or more ``gs://…``, or a single ``bq://…``
    :param output_uri: the requested destination: a ``gs://`` prefix or ``bq://…``
    :param output_location: the actual location of the output, once known:
        ``gs://bucket/…/prediction-model-…`` or ``bq://project.dataset.table``
    """

    name: JobName
    state: JobState
    display_name: str = ""
    model: str = ""
    input_uris: tuple[str, ...] = ()
    output_uri: str | None = None
    output_location: str | None = None
    stats: CompletionStats = CompletionStats()
    error: JobError | None = None
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    update_time: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def latest_time(self) -> datetime | None:
        """End time; if not known, as for EXPIRED jobs, the start time or the creation time."""
        return self.end_time or self.start_time or self.create_time

    @property
    def is_active(self) -> bool:
        """Whether the job is going to process rows. One that is being cancelled is not."""
        return not self.state.is_terminal and self.state is not JobState.CANCELLING

    @property
    def is_charged(self) -> bool:
        """Whether the job has ended with completed rows, which are charged however it ended.

        If the service does not report the count, output that exists is a sign of completed rows.
        """
        if not self.state.is_terminal:
            return False
        if self.error and self.error.code == IMPORT_FAILED and not self.stats.successful:
            return False
        return bool(self.output_location) if self.stats.successful is None else self.stats.successful > 0

    @classmethod
    def from_resource(cls, resource: Mapping[str, Any]) -> BatchJob:
        """Parse a ``batchPredictionJobs`` resource (REST JSON, camelCase)."""
        source = resource.get("inputConfig") or {}
        destination = resource.get("outputConfig") or {}
        error = resource.get("error")
        return cls(
            name=JobName.parse(resource["name"]),
            state=JobState.parse(resource.get("state")),
            display_name=resource.get("displayName") or "",
            model=resource.get("model") or "",
            input_uris=_input_uris(source),
            output_uri=(
                (destination.get("gcsDestination") or {}).get("outputUriPrefix")
                or (destination.get("bigqueryDestination") or {}).get("outputUri")
            ),
            output_location=_output_location(resource.get("outputInfo") or {}),
            stats=CompletionStats.from_resource(resource.get("completionStats")),
            error=_error(error) if error else None,
            create_time=_time(resource.get("createTime")),
            start_time=_time(resource.get("startTime")),
            end_time=_time(resource.get("endTime")),
            update_time=_time(resource.get("updateTime")),
            labels=resource.get("labels") or {},
        )


def _error(status: Mapping[str, Any]) -> JobError:
    return JobError(int(status.get("code") or 0), without_quoted_text(status.get("message") or ""))


def _input_uris(source: Mapping[str, Any]) -> tuple[str, ...]:
    uris = (source.get("gcsSource") or {}).get("uris")
    table = (source.get("bigquerySource") or {}).get("inputUri")
    return tuple(uris or ()) or ((table,) if table else ())


def _output_location(info: Mapping[str, Any]) -> str | None:
    if directory := info.get("gcsOutputDirectory"):
        return str(directory)
    dataset, table = info.get("bigqueryOutputDataset"), info.get("bigqueryOutputTable")
    if not table:
        return None
    # Documented as a dataset and a bare table name; a full `bq://p.d.t` in one field has been seen as well.
    if str(table).startswith("bq://") or not dataset:
        return str(table)
    return f"{dataset}.{table}"


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
