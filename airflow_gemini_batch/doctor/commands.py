"""The ``gcloud`` commands that fix a set-up. Values are quoted for a shell where that is needed."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from airflow_gemini_batch.doctor.facts import Cause

if TYPE_CHECKING:
    from airflow_gemini_batch.doctor.facts import Problem, Setup

LOG_IN = "gcloud auth application-default login"


def enable(api: str, project: str) -> str:
    """Return the command that enables an API."""
    return f"gcloud services enable {api} --project={quote(project)}"


def to_read(problem: Problem, setup: Setup, role: str, on: str, member: str) -> str | None:
    """Return the command after which something can be read that could not; ``None`` if none helps.

    :param role: with which it can be read
    """
    if problem.cause is Cause.DISABLED:
        return enable(problem.service, setup.project)
    return grant(setup, role, on, member) if problem.cause is Cause.DENIED else None


def grant(setup: Setup, role: str, on: str, member: str) -> str:
    """Return the command that grants a role.

    :param on: ``project``, ``bucket`` or ``dataset``
    """
    # The shell is to run the part $(…) of a member whose e-mail address is not known.
    is_open = "$(" in member
    if on == "dataset":
        # gcloud grants nothing on datasets; bq is a part of the same SDK.
        who = f"'\"{member}\"'" if is_open else member
        sql = f"'GRANT `{role}` ON SCHEMA `{setup.dataset}` TO \"{who}\"'"
        return f"bq query --project_id={quote(setup.project)} --use_legacy_sql=false {sql}"
    who = f'"{member}"' if is_open else quote(member)
    rights = f"--member={who} --role={role}"
    if on == "bucket":
        return f"gcloud storage buckets add-iam-policy-binding gs://{quote(setup.bucket)} {rights}"
    return f"gcloud projects add-iam-policy-binding {quote(setup.project)} {rights} --condition=None"


def create_bucket(setup: Setup, region: str) -> str:
    """Return the command that creates the bucket."""
    place = f"--project={quote(setup.project)} --location={region}"
    return f"gcloud storage buckets create gs://{quote(setup.bucket)} {place} --uniform-bucket-level-access"


def create_dataset(dataset: str, region: str) -> str:
    """Return the command that creates a dataset."""
    return f"bq --location={region} mk --dataset {quote(dataset.replace('.', ':', 1))}"
