"""A project as the access APIs show it. At first, nothing is enabled or granted."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # pydantic resolves the annotations at run time.
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from airflow_gemini_batch.exceptions import InvalidParameterError

PROJECT = "project"
"""The name of the project's policy; others are ``bucket/NAME`` and ``dataset/PROJECT.DATASET``."""

_SEES_PROJECT = ("resourcemanager.projects.get",)
_READS_OBJECTS = ("storage.objects.get", "storage.objects.list")
_WRITES_OBJECTS = (*_READS_OBJECTS, "storage.objects.create", "storage.objects.delete")
_WRITES_TABLES = tuple(
    f"bigquery.{each}"
    for each in (
        "datasets.get",
        "tables.create",
        "tables.delete",
        "tables.get",
        "tables.getData",
        "tables.list",
        "tables.update",
        "tables.updateData",
    )
)

# Of each role, the permissions that matter here, as Google's pages of roles list them.
_ROLES: Mapping[str, tuple[str, ...]] = {
    "roles/aiplatform.user": (
        *(f"aiplatform.batchPredictionJobs.{verb}" for verb in ("cancel", "create", "delete", "get", "list")),
        "aiplatform.endpoints.predict",
        *_SEES_PROJECT,
    ),
    "roles/storage.objectViewer": _READS_OBJECTS,
    "roles/storage.objectUser": _WRITES_OBJECTS,
    "roles/storage.objectAdmin": _WRITES_OBJECTS,
    "roles/bigquery.jobUser": ("bigquery.jobs.create", *_SEES_PROJECT),
    "roles/bigquery.dataEditor": _WRITES_TABLES,
    "roles/browser": _SEES_PROJECT,
    "roles/serviceusage.serviceUsageViewer": (
        "serviceusage.services.get",
        "serviceusage.services.list",
        "serviceusage.quotas.get",
    ),
    "roles/iam.securityReviewer": (
        "resourcemanager.projects.getIamPolicy",
        "storage.buckets.getIamPolicy",
        "bigquery.datasets.getIamPolicy",
    ),
}


@dataclass(frozen=True)
class Cloud:
    """One project, and who may do what in it.

    :param project: its ID; calls about another are a 403, as for a project that does not exist
    :param number: its number; digits
    :param caller: the member that all calls come from, such as ``serviceAccount:…``
    :param enabled: the enabled APIs, such as ``aiplatform.googleapis.com``
    :param policies: by resource (see :data:`PROJECT`): the members of each role
    :param buckets: locations by name; with ``STORAGE_EMULATOR_HOST``, those of that server exist as well
    :param datasets: locations by ``project.dataset``; likewise those at ``BIGQUERY_EMULATOR_HOST``
    :param tables: names of tables by ``project.dataset``
    :param quotas: limits of Vertex AI a minute, by the name of the metric without the service
    :param guards_jobs: whether the batch API, too, answers only what is enabled and granted here
    """

    project: str = "local-project"
    number: str = "123456789012"
    caller: str = "serviceAccount:emulator@local-project.iam.gserviceaccount.com"
    enabled: tuple[str, ...] = ()
    policies: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    buckets: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quotas: Mapping[str, int] = field(default_factory=dict)
    guards_jobs: bool = False
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @property
    def agent(self) -> str:
        """The member that is the service agent of Vertex AI."""
        return f"serviceAccount:service-{self.number}@gcp-sa-aiplatform.iam.gserviceaccount.com"

    def may(self, permission: str, resource: str) -> bool:
        """Whether the caller has a permission on a resource, by its policy or by that of the project."""
        return any(
            self.caller in members and permission in _ROLES.get(role, ())
            for where in {PROJECT, resource}
            for role, members in self.policies.get(where, {}).items()
        )

    def allows_job_call(self, permission: str, project: str) -> bool:
        """Whether the batch API answers a call."""
        if not self.guards_jobs:
            return True
        is_enabled = "aiplatform.googleapis.com" in self.enabled
        return project in (self.project, self.number) and is_enabled and self.may(permission, PROJECT)


def with_all_roles(project: str) -> Cloud:
    """Return a project in which everything is granted to the emulator's account, for the local stack.

    Roles are granted on the project, so that they hold for every bucket and dataset that somebody makes.
    """
    bare = Cloud(project=project, caller=f"serviceAccount:emulator@{project}.iam.gserviceaccount.com")
    agent = ("storage.objectAdmin", "bigquery.dataEditor", "bigquery.jobUser")
    policy: dict[str, tuple[str, ...]] = dict.fromkeys(_ROLES, (bare.caller,))
    for role in agent:
        policy[f"roles/{role}"] = (bare.caller, bare.agent)
    names = ("aiplatform", "bigquery", "storage", "cloudresourcemanager", "serviceusage")
    return Cloud(
        project=bare.project,
        caller=bare.caller,
        enabled=tuple(f"{name}.googleapis.com" for name in names),
        policies={PROJECT: policy},
        quotas={"resource_management_requests": 600, "job_submission_requests": 60},
    )


_JSON = TypeAdapter(Cloud)


def cloud_from_json(text: str | bytes) -> Cloud:
    """Parse a project; its members have the names of the fields of :class:`Cloud`.

    :raises InvalidParameterError: names the first invalid member
    """
    try:
        return _JSON.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, ("cloud", *first["loc"])))
        raise InvalidParameterError(place, "…", first["msg"]) from None


def cloud_to_json(cloud: Cloud) -> dict[str, Any]:
    """Return a project as JSON types."""
    plain: dict[str, Any] = _JSON.dump_python(cloud, mode="json")
    return plain
