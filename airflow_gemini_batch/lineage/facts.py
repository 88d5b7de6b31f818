"""What lineage says of a task: its datasets, its batch jobs, and their rows. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.models import ModelName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.lineage.datasets import Dataset
    from airflow_gemini_batch.results.summary import Manifest

MAX_JOBS = 50
"""Jobs that are listed; the sums are those of all."""


@dataclass(frozen=True)
class JobFacts:
    """One batch job, as the task last saw it. The fields are those of the run facet, and documented there.

    :param error: of the job, without the text that it quotes
    """

    name: str
    model: str = ""
    location: str = ""
    state: str = ""
    output_location: str | None = None
    error_code: int | None = None
    error: str | None = None

    @classmethod
    def of(cls, job: BatchJob) -> JobFacts:
        """Take the facts from a job."""
        return cls(
            name=str(job.name),
            model=ModelName.id_of(job.model),
            location=job.name.location,
            state=job.state.value,
            output_location=job.output_location,
            error_code=job.error.code if job.error else None,
            error=job.error.message if job.error else None,
        )

    def updated(self, newer: JobFacts) -> JobFacts:
        """Return what is known after a second look, which may have seen less: a job just created is bare."""
        known = {each.name: getattr(newer, each.name) for each in fields(newer)}
        return replace(self, **{name: value for name, value in known.items() if value not in (None, "")})


@dataclass(frozen=True)
class Facts:
    """What is known of a task run.

    :param rows: landed rows by status
    :param tokens: of landed rows, by kind
    :param cost_usd: of landed rows; ``None`` if the price is unknown, or nothing was landed
    :param estimated_cost_usd: ``low`` and ``high``, as estimated before the jobs were created
    """

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    estimated_cost_usd: Mapping[str, float | None] | None = None

    def and_job(self, job: BatchJob) -> Facts:
        """Add a job, or what a second look at it has shown."""
        found = JobFacts.of(job)
        jobs = {each.name: each for each in self.jobs}
        jobs[found.name] = jobs[found.name].updated(found) if found.name in jobs else found
        return replace(self, jobs=tuple(jobs.values()))

    def and_data(self, inputs: Iterable[Dataset] = (), outputs: Iterable[Dataset] = ()) -> Facts:
        """Add datasets. One that is named again replaces what was known of it."""
        return replace(self, inputs=_merged(self.inputs, inputs), outputs=_merged(self.outputs, outputs))

    def and_landed(self, manifests: Iterable[Manifest]) -> Facts:
        """Add the rows, tokens and costs of jobs that were landed."""
        rows, tokens = Counter(self.rows), Counter(self.tokens)
        cost, estimate = self.cost_usd, self.estimated_cost_usd
        for each in manifests:
            landed: Mapping[str, Any] = each.to_dict()
            rows.update(landed["counts"])
            tokens.update({kind: n for kind, n in landed["tokens"].items() if isinstance(n, int)})
            if landed["cost_usd"] is not None:
                cost = (cost or 0.0) + landed["cost_usd"]
            estimate = _sum(estimate, landed["estimated_cost_usd"])
        return replace(self, rows=dict(rows), tokens=dict(tokens), cost_usd=cost, estimated_cost_usd=estimate)

    def over(self, planned: Facts) -> Facts:
        """Return these facts, and the datasets of a plan that they do not know better."""
        return replace(
            self,
            inputs=_merged(planned.inputs, self.inputs),
            outputs=_merged(planned.outputs, self.outputs),
        )


def _merged(known: tuple[Dataset, ...], more: Iterable[Dataset]) -> tuple[Dataset, ...]:
    return tuple({(each.namespace, each.name): each for each in (*known, *more)}.values())


def _sum(
    known: Mapping[str, float | None] | None, more: Mapping[str, float | None] | None
) -> Mapping[str, float | None] | None:
    if known is None or more is None:
        return more if known is None else known
    pairs = {bound: (known[bound], more[bound]) for bound in known}
    return {bound: None if a is None or b is None else a + b for bound, (a, b) in pairs.items()}
