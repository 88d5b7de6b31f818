"""What the page reads in the api-server: settings, jobs, and costs that tasks have put into XCom."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import GeminiBatchError
from airflow_gemini_batch.job_page.cache import Listing, problem_of
from airflow_gemini_batch.job_page.sources import Source, parse_sources
from airflow_gemini_batch.jobs.listing import jobs_filter
from airflow_gemini_batch.jobs.ownership import is_ours
from airflow_gemini_batch.settings import LOCATION, PAGE_SOURCES
from airflow_gemini_batch.tasks.installation import known_installation
from airflow_gemini_batch.tasks.links import COST_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_gemini_batch.batch_job import BatchJob

log = logging.getLogger(__name__)

SHOWN = timedelta(days=7)
"""Older jobs are not shown. A job queues and runs for four days at most."""
_MAX_PAGES = 20
_LARGEST_PAGE = 1000


def sources() -> tuple[Source, ...]:
    """Return where the page looks for jobs.

    :raises InvalidParameterError: the option has another form
    """
    default = Source("google_cloud_default", None, LOCATION.value() or "global")
    return parse_sources(PAGE_SOURCES.value() or "", default)


def look() -> Listing:
    """List the jobs of this installation in all places; a place that fails does not hide the others."""
    mine = known_installation()
    if not mine:
        # No task has submitted a job yet.
        return Listing()
    jobs: list[BatchJob] = []
    problems: list[str] = []
    is_cut = False
    since = datetime.now(UTC) - SHOWN
    for source in sources():
        try:
            found, is_longer = _list(source, jobs_filter(mine, since=since))
        except GeminiBatchError as error:
            log.warning("The batch jobs in %s cannot be listed: %s", source, error)
            problems.append(f"{source}: {problem_of(error)}")
        else:
            jobs += [job for job in found if is_ours(job, mine)]
            is_cut |= is_longer
    return Listing(tuple(jobs), _costs(since), tuple(problems), is_cut)


def _list(source: Source, filter_: str) -> tuple[list[BatchJob], bool]:
    """Return the jobs of a place, newest first, and whether there are more."""
    from airflow_gemini_batch.hooks.errors import reading_credentials
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

    with reading_credentials(source.gcp_conn_id):
        hook = GeminiBatchHook(gcp_conn_id=source.gcp_conn_id)
    project = hook.resolve_project(source.project)
    jobs: list[BatchJob] = []
    # The service does not publish its largest page, and shortens one that is too large.
    query: dict[str, Any] = {"filter": filter_, "pageSize": _LARGEST_PAGE}
    for _ in range(_MAX_PAGES):
        page = hook.list_page(project, source.location, query, retry=False)
        jobs += page.jobs
        if not page.next_token:
            return jobs, False
        query["pageToken"] = page.next_token
    return jobs, True


def _costs(since: datetime) -> Mapping[str, Decimal]:
    """Return what landed jobs have cost, by their names."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    is_cost = XComModel.key.startswith(COST_KEY, autoescape=True)
    statement = select(XComModel.value).where(is_cost, XComModel.timestamp >= since)
    try:
        with create_session() as session:
            values = list(session.scalars(statement))
    except SQLAlchemyError:
        log.exception("The costs of batch jobs cannot be read")
        return {}
    costs: dict[str, Decimal] = {}
    for value in values:
        try:
            found = json.loads(value) if isinstance(value, str) else value
            costs |= {str(name): Decimal(str(cost)) for name, cost in found.items()}
        except (ValueError, ArithmeticError, AttributeError):
            # A backend of XCom may store it in another form.
            continue
    return costs
