"""Waiting while BigQuery lands results: first on the worker, then in the triggerer.

A landing that begins again finds its BigQuery jobs by their IDs, so a task that resumes just lands again.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_gemini_batch.exceptions import LandingError
from airflow_gemini_batch.jobs.polling import WaitOutcome, utc_now
from airflow_gemini_batch.tasks.options import ConnectionOptions, DeferOptions
from airflow_gemini_batch.tasks.wait import TRIGGER_MARGIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.providers.common.compat.sdk import BaseOperator

    from airflow_gemini_batch.gcp.bigquery_job import Patience, StillRunningError

log = logging.getLogger(__name__)

ON_WORKER = 10.0
"""Seconds that a task waits for BigQuery on its worker; a shorter wait is not worth another process."""
# BigQuery ends a job before.
_LONGEST = timedelta(days=1)
_LANDING = "airflow_gemini_batch.results."


@dataclass
class LandingWait:
    """How one landing waits.

    :param logged: digests of the lines that it has logged, here and before it was deferred
    """

    patience: Patience
    logged: set[str] = field(default_factory=set)

    @contextmanager
    def applies(self) -> Iterator[None]:
        """Let it apply to a landing, which then may raise :class:`StillRunningError`.

        What runs within is begun again when the task resumes, so lines that were logged are not repeated.
        """
        before = frozenset(self.logged)

        def is_new(record: logging.LogRecord) -> bool:
            line = hashlib.sha256(record.getMessage().encode()).hexdigest()[:12]
            self.logged.add(line)
            return line not in before

        loggers = [logging.getLogger(name) for name in _names() if name.startswith(_LANDING)]
        for each in loggers:
            each.addFilter(is_new)
        try:
            with self.patience.applies():
                yield
        finally:
            for each in loggers:
                each.removeFilter(is_new)


def is_of_landing(event: Mapping[str, Any] | None) -> bool:
    """Whether an event comes from the trigger that waits for BigQuery, and not from the one for a job."""
    return event is not None and "resume" in event


@contextmanager
def lands_in_triggerer(
    operator: BaseOperator, event: Mapping[str, Any] | None = None, **names: Any
) -> Iterator[LandingWait]:
    """Wait for BigQuery in the triggerer if what runs within takes longer than :data:`ON_WORKER`.

    :param operator: has the attributes of :class:`DeferOptions` and :class:`ConnectionOptions`
    :param event: with which the task resumes, if it does
    :param names: what the task needs to go on after it has resumed: names and numbers only; they will be in
        the event, under ``resume``
    :raises LandingError: BigQuery was not done at the deadline
    """
    # Imported here: a DAG file imports this module.
    from airflow_gemini_batch.gcp.bigquery_job import Patience, StillRunningError

    resume: Mapping[str, Any] = event["resume"] if event and is_of_landing(event) else {}
    may_defer = DeferOptions.of(operator).deferrable
    if event and resume:
        _check_deadline(event)
        if event["outcome"] == WaitOutcome.ERROR.value:
            log.warning(
                "The triggerer cannot see whether BigQuery is done, so this task waits on its worker: %s",
                event["message"],
            )
            may_defer = False
    started, logged = set(resume.get("started", ())), set(resume.get("logged", ()))
    wait = LandingWait(Patience(ON_WORKER if may_defer else None, started), logged)
    try:
        yield wait
    except StillRunningError as error:
        running = error
    else:
        return
    limit = operator.execution_timeout or _LONGEST
    deadline = datetime.fromisoformat(resume["deadline"]) if "deadline" in resume else utc_now() + limit
    of_landing = {"started": sorted(started), "logged": sorted(logged), "deadline": deadline.isoformat()}
    _defer(operator, running, deadline, {**names, **of_landing})


def _names() -> list[str]:
    return list(logging.root.manager.loggerDict)


def _check_deadline(event: Mapping[str, Any]) -> None:
    if event["outcome"] == WaitOutcome.TIMEOUT.value:
        raise LandingError(
            f"BigQuery was not done at the deadline. It goes on with {_listed(event['job_ids'])}; a retry, "
            "or clearing this task, waits for it again."
        )


def _defer(
    operator: BaseOperator, running: StillRunningError, deadline: datetime, resume: dict[str, Any]
) -> NoReturn:
    # Imported here: it costs a DAG file 20 ms.
    from airflow_gemini_batch.triggers.bigquery_jobs import BigQueryJobsTrigger

    connection, first = ConnectionOptions.of(operator), running.jobs[0]
    ids = [job.job_id for job in running.jobs]
    log.info("BigQuery is working. Waiting in the triggerer for %s.", _listed(ids))
    operator.defer(
        trigger=BigQueryJobsTrigger(
            project=first.project,
            location=first.location,
            job_ids=ids,
            deadline=deadline.isoformat(),
            resume=resume,
            gcp_conn_id=connection.gcp_conn_id,
            impersonation_chain=connection.impersonation_chain,
        ),
        method_name="execute_complete",
        timeout=deadline - utc_now() + TRIGGER_MARGIN,
    )
    raise AssertionError("defer() does not return")


def _listed(job_ids: list[str]) -> str:
    return f"BigQuery job{'s' if len(job_ids) > 1 else ''} {', '.join(job_ids)}"
