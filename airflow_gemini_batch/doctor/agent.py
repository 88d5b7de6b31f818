"""The service agent of Vertex AI: it reads the input of jobs and writes their output. Pure.

There is no way to ask what another account may do, only to read who has which role. Where a policy may not be
read, nothing is claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_gemini_batch.doctor import commands
from airflow_gemini_batch.doctor.facts import Dataset, Problem
from airflow_gemini_batch.doctor.findings import Finding, Status
from airflow_gemini_batch.doctor.needs import (
    AGENT_OBJECTS,
    AGENT_QUERIES,
    AGENT_TABLES,
    SUFFICIENT,
    Need,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_gemini_batch.doctor.facts import Binding, Caller, Facts, Setup

_EVERYBODY = frozenset({"allUsers", "allAuthenticatedUsers"})


def check_agent(setup: Setup, facts: Facts, caller: Caller) -> Iterator[Finding]:
    """Yield a finding for each role that the service agent needs."""
    if isinstance(facts.number, Problem):
        yield Finding(
            "agent",
            "service agent of Vertex AI",
            Status.UNKNOWN,
            "Its e-mail address has the number of the project, which could not be read.",
            commands.grant(setup, "roles/browser", "project", caller.member),
        )
        return
    member = f"serviceAccount:service-{facts.number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
    yield _need(setup, AGENT_OBJECTS, member, facts.project_policy, facts.bucket_policy)
    if setup.files_only:
        return
    dataset = facts.dataset.access if isinstance(facts.dataset, Dataset) else facts.dataset
    yield _need(setup, AGENT_TABLES, member, facts.project_policy, dataset)
    yield _need(setup, AGENT_QUERIES, member, facts.project_policy, ())


def _need(
    setup: Setup,
    need: Need,
    member: str,
    project: tuple[Binding, ...] | Problem,
    resource: tuple[Binding, ...] | Problem,
) -> Finding:
    check, title = f"agent.{need.check}", f"{need.role} of the service agent on the {need.on}"
    email = member.partition(":")[2]
    command = commands.grant(setup, need.role, need.on, member)
    known = [policy for policy in (project, resource) if not isinstance(policy, Problem)]
    bindings = [each for policy in known for each in policy if each.members & {member, *_EVERYBODY}]
    enough = [each for each in bindings if each.role in SUFFICIENT[need.role]]
    if role := next((each.role for each in enough if not each.is_conditional), None):
        return Finding(check, title, Status.OK, f"{email} has {role}.")
    unread = [policy for policy in (project, resource) if isinstance(policy, Problem)]
    doubt = _doubt(need, bindings, unread)
    if doubt:
        text = f"{doubt}; the command changes nothing if the role is granted already."
        return Finding(check, title, Status.UNKNOWN, text, command)
    places = "the project" if need.on == "project" else f"the project or the {need.on}"
    detail = f"{email} has no role on {places} with which it can {need.purpose}."
    return Finding(check, title, Status.MISSING, detail, command)


def _doubt(need: Need, bindings: Sequence[Binding], unread: Sequence[Problem]) -> str:
    """Return why nothing can be said; empty if it can."""
    if unread:
        return f"Not every policy may be read, so nobody can tell from here: {unread[0].detail.rstrip('.')}"
    for each in bindings:
        if each.role in SUFFICIENT[need.role]:
            return f"It has {each.role} under a condition, which is not evaluated here"
        if not each.role.startswith("roles/"):
            return f"It has the custom role {each.role}, whose permissions are not read here"
    return ""
