"""From facts to findings, in the order in which a job needs them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_gemini_batch.doctor import commands
from airflow_gemini_batch.doctor.agent import check_agent
from airflow_gemini_batch.doctor.facts import Caller, Cause, Problem
from airflow_gemini_batch.doctor.findings import CREDENTIALS, LISTS_JOBS, Diagnosis, Finding, Status
from airflow_gemini_batch.doctor.needs import (
    APIS,
    LOOK_AT_SERVICES,
    READ_OBJECTS,
    RUN_QUERIES,
    USE_JOBS,
    WRITE_OBJECTS,
    WRITE_TABLES,
    Need,
)
from airflow_gemini_batch.doctor.places import check_bucket, check_dataset, check_model
from airflow_gemini_batch.doctor.quotas import check_quotas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from airflow_gemini_batch.doctor.facts import Facts, Setup


def diagnose(setup: Setup, facts: Facts, today: date) -> Diagnosis:
    """Return what is there, what is missing, and what could not be decided.

    :param today: decides whether the model has retired
    """
    return Diagnosis(tuple(_findings(setup, facts, today)))


def _findings(setup: Setup, facts: Facts, today: date) -> Iterator[Finding]:
    yield _credentials(setup, facts)
    if isinstance(facts.caller, Problem):
        return
    yield _project(setup, facts, facts.caller)
    yield from _apis(setup, facts, facts.caller)
    yield check_model(setup, today)
    yield _caller_need(setup, facts.caller, USE_JOBS, facts.on_project)
    yield _lists_jobs(setup, facts, facts.caller)
    yield check_bucket(setup, facts, facts.caller)
    yield _caller_need(setup, facts.caller, READ_OBJECTS, facts.on_bucket)
    yield _caller_need(setup, facts.caller, WRITE_OBJECTS, facts.on_bucket)
    yield check_dataset(setup, facts, facts.caller)
    yield _runs_queries(setup, facts, facts.caller)
    yield _creates_tables(setup, facts, facts.caller)
    if facts.on_table is not None:
        yield _caller_need(setup, facts.caller, WRITE_TABLES, facts.on_table)
    yield from check_agent(setup, facts, facts.caller)
    yield check_quotas(setup, facts, facts.caller)


def _unknown(check: str, title: str, setup: Setup, problem: Problem, caller: Caller, *, look: str) -> Finding:
    """Return that something could not be decided, and the command after which it can.

    :param look: role on the project that allows to look
    """
    command = commands.to_read(problem, setup, look, "project", caller.member)
    return Finding(check, title, Status.UNKNOWN, f"This could not be read: {problem.detail}", command)


def _credentials(setup: Setup, facts: Facts) -> Finding:
    title = f"Airflow connection {setup.gcp_conn_id}" if setup.gcp_conn_id else "credentials of this machine"
    caller = facts.caller
    if isinstance(caller, Caller):
        detail = f"The credentials belong to {caller.email}."
        if caller.email is None:
            detail = "The credentials do not say whose they are."
            if not caller.is_user:
                detail = "The credentials do not say whose they are: replace PRINCIPAL in the commands."
        return Finding(CREDENTIALS, title, Status.OK, detail)
    command = f"airflow connections get {setup.gcp_conn_id}" if setup.gcp_conn_id else commands.LOG_IN
    status = Status.UNKNOWN if caller.cause is Cause.UNREACHABLE else Status.MISSING
    return Finding(CREDENTIALS, title, status, caller.detail, command)


def _project(setup: Setup, facts: Facts, caller: Caller) -> Finding:
    title = f"project {setup.project}"
    if isinstance(facts.number, Problem):
        return _unknown("project", title, setup, facts.number, caller, look="roles/browser")
    return Finding("project", title, Status.OK, f"Its number is {facts.number}.")


def _apis(setup: Setup, facts: Facts, caller: Caller) -> Iterator[Finding]:
    for api in APIS:
        check, title = f"api.{api.partition('.')[0]}", f"API {api}"
        if isinstance(facts.enabled, Problem):
            yield _unknown(check, title, setup, facts.enabled, caller, look=LOOK_AT_SERVICES)
        elif api in facts.enabled:
            yield Finding(check, title, Status.OK, "It is enabled.")
        else:
            yield Finding(
                check, title, Status.MISSING, "It is not enabled.", commands.enable(api, setup.project)
            )


def _caller_need(setup: Setup, caller: Caller, need: Need, held: frozenset[str] | Problem) -> Finding:
    place = "tables of the dataset" if need is WRITE_TABLES else need.on
    check, title = f"caller.{need.check}", f"{need.role} on the {place}"
    command = commands.grant(setup, need.role, need.on, caller.member)
    if isinstance(held, Problem) and held.cause is Cause.ABSENT:
        return Finding(check, title, Status.UNKNOWN, f"There is no such {need.on} to ask about.")
    if isinstance(held, Problem):
        detail = f"Whether it is granted could not be read: {held.detail}"
        if held.cause is not Cause.DENIED:
            look = commands.to_read(held, setup, need.role, need.on, caller.member)
            return Finding(check, title, Status.UNKNOWN, detail, look)
        return Finding(check, title, Status.UNKNOWN, detail, command)
    if lacking := sorted(need.permissions - held):
        detail = f"The caller lacks {', '.join(lacking)}, needed to {need.purpose}."
        return Finding(check, title, Status.MISSING, detail, command)
    return Finding(check, title, Status.OK, f"The caller can {need.purpose}.")


def _lists_jobs(setup: Setup, facts: Facts, caller: Caller) -> Finding:
    check, title = LISTS_JOBS, f"batch jobs in {setup.location}"
    problem = facts.lists_jobs
    if problem is None:
        return Finding(check, title, Status.OK, "The jobs can be listed.")
    if problem.cause is Cause.UNREACHABLE:
        return Finding(check, title, Status.UNKNOWN, f"The jobs could not be listed: {problem.detail}")
    command = commands.grant(setup, USE_JOBS.role, "project", caller.member)
    if not isinstance(facts.enabled, Problem) and APIS[0] not in facts.enabled:
        command = commands.enable(APIS[0], setup.project)
    return Finding(check, title, Status.MISSING, f"The jobs cannot be listed: {problem.detail}", command)


def _runs_queries(setup: Setup, facts: Facts, caller: Caller) -> Finding:
    title = f"{RUN_QUERIES.role} on the project"
    return _dry_run(setup, f"caller.{RUN_QUERIES.check}", title, facts.runs_queries, caller, RUN_QUERIES)


def _creates_tables(setup: Setup, facts: Facts, caller: Caller) -> Finding:
    title = f"{WRITE_TABLES.role} on the dataset"
    if facts.runs_queries is not None:
        detail = "This needs a dry run of a statement, which the caller cannot run."
        command = commands.grant(setup, RUN_QUERIES.role, "project", caller.member)
        if facts.runs_queries.cause is Cause.DISABLED:
            command = commands.enable(facts.runs_queries.service, setup.project)
        return Finding("caller.create_tables", title, Status.UNKNOWN, detail, command)
    return _dry_run(setup, "caller.create_tables", title, facts.creates_tables, caller, WRITE_TABLES)


def _dry_run(
    setup: Setup, check: str, title: str, problem: Problem | None, caller: Caller, need: Need
) -> Finding:
    if problem is None:
        what = "run queries" if need is RUN_QUERIES else "create tables"
        return Finding(check, title, Status.OK, f"The caller can {what}, as a dry run shows.")
    if problem.cause in (Cause.DENIED, Cause.DISABLED):
        detail = f"The dry run was refused, so results cannot be landed: {problem.detail}"
        command = commands.grant(setup, need.role, need.on, caller.member)
        if problem.cause is Cause.DISABLED:
            command = commands.enable(problem.service, setup.project)
        return Finding(check, title, Status.MISSING, detail, command)
    return Finding(check, title, Status.UNKNOWN, f"The dry run did not work: {problem.detail}")
