"""What is shown of a batch job. Pure; ``now`` is an argument."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.cost.ranges import CostSpan
from airflow_gemini_batch.formats import dollars, duration
from airflow_gemini_batch.gcp.console import job_page, place_page
from airflow_gemini_batch.jobs.identity import (
    DAG_LABEL,
    INSTALLATION_LABEL,
    TASK_LABEL,
    estimate_label,
    label_value,
    title_of,
)
from airflow_gemini_batch.jobs.ownership import ended_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from decimal import Decimal

    from airflow_gemini_batch.batch_job import BatchJob, CompletionStats

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class JobRow:
    """A job, as texts to show and as values to sort and filter by.

    :param state: without the prefix, such as ``RUNNING``
    :param kind: ``queued``, ``running``, ``good`` or ``bad``
    :param dag_id: the DAG's ID if it is known, otherwise the label for it; the same for ``task_id``
    :param progress: share of the rows that are done, from 0 to 1; ``None`` if the service does not say
    :param rows: such as ``1,200 of 2,000, 3 failed``
    :param cost: what it has cost if that is known, otherwise the estimate, otherwise empty
    :param age: how long it has been in this state, such as ``for 5 min`` or ``3 h ago``
    :param since: when its state began, as ISO 8601
    :param error: why it failed, without text of prompts
    """

    job_name: str
    job_id: str
    project: str
    location: str
    title: str
    state: str
    kind: str
    installation: str
    dag_id: str
    task_id: str
    model: str
    progress: float | None
    rows: str
    succeeded: int | None
    failed: int | None
    incomplete: int | None
    cost: str
    estimate_usd: dict[str, float | None] | None
    cost_usd: float | None
    age: str
    since: str
    created: str
    error: str
    job_url: str
    output_url: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Names:
    """IDs of DAGs by their labels, and what jobs have cost by their names."""

    dags: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, Decimal] = field(default_factory=dict)

    @classmethod
    def of_dags(cls, dag_ids: Iterable[str], costs: Mapping[str, Decimal] | None = None) -> Names:
        """Know the DAGs with these IDs."""
        return cls({label_value(dag_id): dag_id for dag_id in dag_ids}, costs or {})


def job_row(job: BatchJob, now: datetime, names: Names | None = None) -> JobRow:
    """Return what is shown of a job."""
    known = names or Names()
    estimate = CostSpan.from_label(estimate_label(job.labels))
    actual = known.costs.get(str(job.name))
    age, since = _age(job, now)
    dag_id, task_id = _ids(job, known.dags)
    return JobRow(
        job_name=str(job.name),
        job_id=job.name.job_id,
        project=job.name.project,
        location=job.name.location,
        title=title_of(job),
        state=job.state.name,
        kind=_kind(job.state),
        installation=job.labels.get(INSTALLATION_LABEL, ""),
        dag_id=dag_id,
        task_id=task_id,
        model=job.model.rpartition("/")[2],
        progress=_progress(job),
        rows=_rows(job.stats),
        succeeded=job.stats.successful,
        failed=job.stats.failed,
        incomplete=job.stats.incomplete,
        cost=_cost(estimate, actual, _kind(job.state)),
        estimate_usd=estimate.to_dict() if estimate else None,
        cost_usd=None if actual is None else float(actual),
        age=age,
        since=_iso(since),
        created=_iso(job.create_time),
        error=job.error.message if job.error else "",
        job_url=job_page(job.name),
        output_url=place_page(job.known_output or job.output_uri, job.name.project),
    )


def sorted_rows(rows: Iterable[JobRow]) -> list[JobRow]:
    """Return jobs that have not ended first, each kind newest first."""
    newest = sorted(rows, key=lambda row: (row.created, row.job_name), reverse=True)
    return sorted(newest, key=lambda row: row.kind in ("good", "bad"))


def totals(rows: Iterable[JobRow]) -> dict[str, int]:
    """Count the jobs of each kind."""
    counts = dict.fromkeys(("queued", "running", "good", "bad"), 0)
    for row in rows:
        counts[row.kind] += 1
    return counts


def _ids(job: BatchJob, dags: Mapping[str, str]) -> tuple[str, str]:
    """Return the IDs of DAG and task: their labels, or the texts of the display name that fit the labels."""
    dag, task = (job.labels.get(label, "") for label in (DAG_LABEL, TASK_LABEL))
    title = title_of(job)
    for dot in (place for place, character in enumerate(title) if character == "."):
        dag_id, task_id = title[:dot], title[dot + 1 :]
        if label_value(dag_id) == dag and label_value(task_id) == task:
            return dag_id, task_id
    return dags.get(dag, dag), task


def _kind(state: JobState) -> str:
    if state.is_terminal:
        return "good" if state.is_success else "bad"
    return "queued" if state in (JobState.QUEUED, JobState.PENDING, JobState.UNSPECIFIED) else "running"


def _progress(job: BatchJob) -> float | None:
    stats = job.stats
    if job.state is JobState.SUCCEEDED:
        return 1.0
    if stats.successful is None or stats.failed is None or stats.incomplete is None:
        return None
    whole = stats.successful + stats.failed + stats.incomplete
    return (stats.successful + stats.failed) / whole if whole else None


def _rows(stats: CompletionStats) -> str:
    if stats.successful is None:
        return ""
    text = f"{stats.successful:,}"
    if stats.failed is not None and stats.incomplete is not None:
        text += f" of {stats.successful + stats.failed + stats.incomplete:,}"
    return f"{text}, {stats.failed:,} failed" if stats.failed else text


def _cost(estimate: CostSpan | None, actual: Decimal | None, kind: str) -> str:
    if actual is not None:
        return dollars(actual)
    # A job that ended badly is charged for the rows that it has completed.
    of_what = " for all rows" if kind == "bad" else ""
    return f"{estimate}, estimated{of_what}" if estimate else ""


def _age(job: BatchJob, now: datetime) -> tuple[str, datetime | None]:
    """Return since when the job is in its state, in words and as a time."""
    if job.state.is_terminal:
        since = ended_at(job)
        return f"{_roughly(now - since)} ago" if since else "", since
    is_queued = _kind(job.state) == "queued"
    since = job.create_time if is_queued else job.start_time
    if not since:
        return "", None
    if is_queued or job.state is JobState.RUNNING:
        return f"for {_roughly(now - since)}", since
    return f"started {_roughly(now - since)} ago", since


def _roughly(length: timedelta) -> str:
    """Format a length of time without the seconds of what is longer than a minute."""
    return duration(length - length % _MINUTE if length > _MINUTE else length)


def _iso(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""
