"""A batch inference job of Gemini Enterprise Agent Platform (Vertex AI): its name, states and counts.

Field names and states are those of the REST resource
``projects.locations.batchPredictionJobs`` (discovery document ``aiplatform.v1``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError, UnreadableResponseError
from airflow_gemini_batch.messages import without_quoted_text
from airflow_gemini_batch.resource import as_count, as_mapping, as_text, as_texts, as_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


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
    def parse(cls, value: object) -> JobState:
        """Parse a state as the service sends it; an unknown one becomes ``UNSPECIFIED``.

        A state that the service adds later must not break a waiting task: it keeps waiting.
        """
        try:
            return cls(as_text(value))
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

LOCATION_FORM = "give 'global', 'us', 'eu' or a region such as 'europe-west4'"
"""What a location looks like, for messages."""

# Compiled when first used, since each DAG file that is parsed imports this module.
# The location becomes part of the host that the access token is sent to, so it can be nothing but a label.
_LOCATION = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
# An ID or a number; the ID of an old project may begin with a domain, as in example.com:project.
_PROJECT = r"(?:[a-z0-9-]+(?:\.[a-z0-9-]+)+:)?[a-z0-9-]+"
_JOB_ID = r"[A-Za-z0-9_-]+"
_JOB_NAME = r"projects/([^/]+)/locations/([^/]+)/batchPredictionJobs/([^/]+)"


def check_project(project: object) -> None:
    """Check the ID or the number of a project.

    :raises InvalidParameterError: it is neither
    """
    if not (isinstance(project, str) and re.fullmatch(_PROJECT, project)):
        raise InvalidParameterError("project_id", project, "give the ID or the number of a project")


def check_place(project: object, location: object) -> None:
    """Check the two values that every URL of the service is made from.

    :raises InvalidParameterError: ``project`` is no project ID or number, or ``location`` no region
    """
    check_project(project)
    if not (isinstance(location, str) and re.fullmatch(_LOCATION, location)):
        raise InvalidParameterError("location", location, LOCATION_FORM)


@dataclass(frozen=True)
class JobName:
    """``projects/{project}/locations/{location}/batchPredictionJobs/{job_id}``, parsed."""

    project: str
    location: str
    job_id: str

    @classmethod
    def of(cls, name: JobName | str) -> JobName:
        """Return a name that is parsed, or parse one.

        :raises InvalidParameterError: it is not a full resource name
        """
        return name if isinstance(name, cls) else cls.parse(name)  # type: ignore[arg-type]

    @classmethod
    def parse(cls, name: str, parameter: str = "job_name") -> JobName:
        """Parse a full resource name.

        :raises InvalidParameterError: ``name`` is not a full resource name
        """
        match = re.fullmatch(_JOB_NAME, name) if isinstance(name, str) else None
        parts = match.groups() if match else ("", "", "")
        patterns = (_PROJECT, _LOCATION, _JOB_ID)
        if not all(re.fullmatch(pattern, part) for pattern, part in zip(patterns, parts, strict=True)):
            fix = (
                "give the full resource name that GeminiBatchSubmitOperator returns, "
                "projects/PROJECT/locations/LOCATION/batchPredictionJobs/ID"
            )
            given: object = name
            if isinstance(given, Sequence) and not isinstance(given, (str, bytes)) and "[" not in parameter:
                fix = f"a task takes one job; use .expand({parameter}=…) for the jobs of a mapped task"
            raise InvalidParameterError(parameter, name, fix)
        return cls(*parts)

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
    def from_resource(cls, stats: object) -> CompletionStats:
        """Parse ``completionStats``, which may be absent. Its counts are strings and may be ``-1``.

        A count missing from a present object is zero: protobuf JSON omits zeros.
        """
        if not isinstance(stats, dict):
            return cls()
        counts = (stats.get(f"{name}Count") for name in ("successful", "failed", "incomplete"))
        return cls(*(0 if count is None else as_count(count) for count in counts))

    def __str__(self) -> str:
        known = {"succeeded": self.successful, "failed": self.failed, "incomplete": self.incomplete}
        return ", ".join(f"{n:,} {what}" for what, n in known.items() if n is not None) or "no counts"


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
    def output_table(self) -> str | None:
        """The table with the output, ``bq://…``: as the service says, or as it was asked to write."""
        places = (self.output_location, self.output_uri)
        return next((place for place in places if place and is_table_uri(place)), None)

    @property
    def known_output(self) -> str | None:
        """Where the output is: as the service says, or the one table that it was asked to write."""
        return self.output_location or self.output_table

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
    def from_resource(cls, resource: object) -> BatchJob:
        """Parse a ``batchPredictionJobs`` resource (REST JSON, camelCase).

        A member of an unexpected type counts as absent, and an unknown state as ``UNSPECIFIED``.

        :raises UnreadableResponseError: this is no job: there is no valid name
        """
        members = as_mapping(resource)
        try:
            name = JobName.parse(as_text(members.get("name")))
        except InvalidParameterError as error:
            found = as_text(members.get("name"))[:100]
            raise UnreadableResponseError(f"a batch job without a valid name ({found!r})") from error
        destination = as_mapping(members.get("outputConfig"))
        return cls(
            name=name,
            state=JobState.parse(members.get("state")),
            display_name=as_text(members.get("displayName")),
            model=as_text(members.get("model")),
            input_uris=_input_uris(as_mapping(members.get("inputConfig"))),
            output_uri=(
                as_text(as_mapping(destination.get("gcsDestination")).get("outputUriPrefix"))
                or as_text(as_mapping(destination.get("bigqueryDestination")).get("outputUri"))
                or None
            ),
            output_location=_output_location(as_mapping(members.get("outputInfo"))),
            stats=CompletionStats.from_resource(members.get("completionStats")),
            error=_error(members.get("error")),
            create_time=as_time(members.get("createTime")),
            start_time=as_time(members.get("startTime")),
            end_time=as_time(members.get("endTime")),
            update_time=as_time(members.get("updateTime")),
            labels={k: v for k, v in as_mapping(members.get("labels")).items() if isinstance(v, str)},
        )


def is_table_uri(uri: str) -> bool:
    """Whether a URI names one table, ``bq://project.dataset.table``, and not only a dataset."""
    return uri.startswith("bq://") and uri.count(".") >= 2


def _input_uris(source: Mapping[str, Any]) -> tuple[str, ...]:
    table = as_text(as_mapping(source.get("bigquerySource")).get("inputUri"))
    return as_texts(as_mapping(source.get("gcsSource")).get("uris")) or as_texts(table)


def _output_location(info: Mapping[str, Any]) -> str | None:
    if directory := as_text(info.get("gcsOutputDirectory")):
        return directory
    dataset, table = as_text(info.get("bigqueryOutputDataset")), as_text(info.get("bigqueryOutputTable"))
    if not table:
        return None
    # Documented as a dataset and a bare table name; a full `bq://p.d.t` in one field has been seen as well.
    return table if table.startswith("bq://") or not dataset else f"{dataset}.{table}"


def _error(error: object) -> JobError | None:
    if isinstance(error, str) and error:
        return JobError(0, without_quoted_text(error))
    status = as_mapping(error)
    message = without_quoted_text(as_text(status.get("message")))
    return JobError(as_count(status.get("code")) or 0, message) if status else None


@dataclass(frozen=True)
class JobPage:
    """A page of a list of jobs; there are more pages if ``next_token`` is not empty."""

    jobs: tuple[BatchJob, ...]
    next_token: str
