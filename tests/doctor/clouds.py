"""Set-ups for tests: one in which all is well, and ways to break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_gemini_batch.emulator.access.cloud import PROJECT, Cloud

NAME = "local-project"
BUCKET, DATASET = "my-bucket", f"{NAME}.my_dataset"
BARE = Cloud(project=NAME, number="123456789012")
CALLER, AGENT = BARE.caller, BARE.agent
ARGUMENTS = [
    *("doctor", "--project", NAME, "--location", "global", "--bucket", BUCKET, "--dataset", "my_dataset"),
    *("--model", "gemini-3.5-flash", "--conn-id", "google_cloud_default"),
]

# The roles of the README, and two that let the doctor look at everything.
HEALTHY = replace(
    BARE,
    enabled=tuple(
        f"{name}.googleapis.com"
        for name in ("aiplatform", "bigquery", "storage", "cloudresourcemanager", "serviceusage")
    ),
    policies={
        PROJECT: {
            "roles/aiplatform.user": (CALLER,),
            "roles/bigquery.jobUser": (CALLER, AGENT),
            "roles/iam.securityReviewer": (CALLER,),
            "roles/serviceusage.serviceUsageViewer": (CALLER,),
        },
        f"bucket/{BUCKET}": {
            "roles/storage.objectViewer": (CALLER,),
            "roles/storage.objectUser": (CALLER,),
            "roles/storage.objectAdmin": (AGENT,),
        },
        f"dataset/{DATASET}": {"roles/bigquery.dataEditor": (CALLER, AGENT)},
    },
    buckets={BUCKET: "US-CENTRAL1"},
    datasets={DATASET: "us-central1"},
    tables={DATASET: ("answers",)},
    quotas={"resource_management_requests": 600, "job_submission_requests": 60},
    guards_jobs=True,
)


def without(role: str, member: str = CALLER, cloud: Cloud = HEALTHY) -> Cloud:
    """Return the set-up after a role was revoked from somebody, everywhere."""
    policies = {
        resource: {
            name: tuple(each for each in members if (name, each) != (role, member))
            for name, members in policy.items()
        }
        for resource, policy in cloud.policies.items()
    }
    return replace(cloud, policies=policies)


def with_role(role: str, member: str, resource: str = PROJECT, cloud: Cloud = HEALTHY) -> Cloud:
    """Return the set-up after a role was granted."""
    policy = {**cloud.policies[resource], role: (*cloud.policies[resource].get(role, ()), member)}
    return replace(cloud, policies={**cloud.policies, resource: policy})


def changed(**fields: Any) -> Cloud:
    """Return the healthy set-up with other values."""
    return replace(HEALTHY, **fields)


BROKEN = replace(
    without("roles/storage.objectUser", cloud=without("roles/storage.objectAdmin", AGENT)),
    enabled=tuple(name for name in HEALTHY.enabled if not name.startswith("aiplatform")),
    datasets={DATASET: "EU"},
)
