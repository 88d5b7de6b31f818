"""What the caller and the service agent need: the roles of the README, and the permissions behind them."""

from __future__ import annotations

from dataclasses import dataclass

APIS = ("aiplatform.googleapis.com", "bigquery.googleapis.com", "storage.googleapis.com")
"""The APIs that jobs and their landing use."""


@dataclass(frozen=True)
class Need:
    """A role that somebody needs.

    :param check: end of the name of the finding
    :param role: the smallest predefined role that has the permissions
    :param on: ``project``, ``bucket`` or ``dataset``
    :param permissions: what is tested
    :param purpose: completes "needed to …"
    """

    check: str
    role: str
    on: str
    permissions: frozenset[str]
    purpose: str


def _permissions(service: str, *names: str) -> frozenset[str]:
    return frozenset(f"{service}.{name}" for name in names)


USE_JOBS = Need(
    "jobs",
    "roles/aiplatform.user",
    "project",
    _permissions(
        "aiplatform",
        *(f"batchPredictionJobs.{verb}" for verb in ("create", "get", "list", "cancel")),
        "endpoints.predict",
    ),
    "create, read and cancel jobs, and count tokens",
)
READ_OBJECTS = Need(
    "read_objects",
    "roles/storage.objectViewer",
    "bucket",
    _permissions("storage.objects", "get", "list"),
    "find the output",
)
WRITE_OBJECTS = Need(
    "write_objects",
    "roles/storage.objectUser",
    "bucket",
    _permissions("storage.objects", "create", "delete"),
    "write requests built from a function, reports, and generated images",
)
RUN_QUERIES = Need(
    "queries",
    "roles/bigquery.jobUser",
    "project",
    _permissions("bigquery", "jobs.create"),
    "land results",
)
WRITE_TABLES = Need(
    "tables",
    "roles/bigquery.dataEditor",
    "dataset",
    _permissions("bigquery.tables", "get", "getData", "update", "updateData"),
    "land results",
)

AGENT_OBJECTS = Need(
    "objects",
    "roles/storage.objectAdmin",
    "bucket",
    frozenset(),
    "read the input and write the output",
)
AGENT_TABLES = Need(
    "tables",
    "roles/bigquery.dataEditor",
    "dataset",
    frozenset(),
    "read and write tables",
)
AGENT_QUERIES = Need(
    "queries",
    "roles/bigquery.jobUser",
    "project",
    frozenset(),
    "read and write tables",
)

# Google grants the service agent its own role on the project, with access to its objects and tables.
# A policy names roles, not permissions, so these lists are needed.
_FOR_ALL = frozenset({"roles/owner", "roles/editor", "roles/aiplatform.serviceAgent"})
SUFFICIENT = {
    AGENT_OBJECTS.role: _FOR_ALL | {AGENT_OBJECTS.role, "roles/storage.admin", "roles/storage.objectUser"},
    AGENT_TABLES.role: _FOR_ALL
    | {AGENT_TABLES.role, "roles/bigquery.admin", "roles/bigquery.dataOwner", "WRITER", "OWNER"},
    AGENT_QUERIES.role: _FOR_ALL
    | {AGENT_QUERIES.role, "roles/bigquery.admin", "roles/bigquery.user", "roles/bigquery.studioUser"},
}
"""By the role that is needed: all predefined roles that have what it is needed for."""

LOOK_AT_POLICIES = "roles/iam.securityReviewer"
LOOK_AT_SERVICES = "roles/serviceusage.serviceUsageViewer"
"""Roles that only the doctor needs, to look."""
