"""What a task tells about itself while it runs: metrics, and facts that lineage asks for when it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.tasks.landing_options import result_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.lineage.datasets import Dataset
    from airflow_gemini_batch.lineage.facts import Facts
    from airflow_gemini_batch.results.summary import Manifest


class Observed:
    """An operator that OpenLineage's extractors can ask for its datasets and its batch jobs.

    The facts are those that the task has learned anyway: no method calls a service.
    """

    _facts: Facts | None = None

    def get_openlineage_facets_on_start(self) -> Any:
        """Called by Airflow when the task starts, if the OpenLineage provider is installed and on."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Called by Airflow when the task has succeeded."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Called by Airflow when the task has failed. Airflow adds the error."""
        return self._lineage()

    def _lineage(self) -> Any:
        from airflow_gemini_batch.lineage.events import operator_lineage
        from airflow_gemini_batch.lineage.facts import Facts

        try:
            planned = self._planned()
        except InvalidParameterError:  # The task says so itself.
            planned = Facts()
        return operator_lineage(self._known().over(planned))

    def _planned(self) -> Facts:
        """The datasets that the parameters name."""
        from airflow_gemini_batch.lineage.facts import Facts

        return Facts()

    def _known(self) -> Facts:
        from airflow_gemini_batch.lineage.facts import Facts

        return self._facts or Facts()

    def _saw_data(self, inputs: Iterable[Dataset] = (), outputs: Iterable[Dataset] = ()) -> None:
        self._facts = self._known().and_data(inputs, outputs)

    def _saw_submission(self, job: BatchJob, model: str, *, created: bool) -> None:
        """Note that the task has created a job, or has found it.

        :param model: of the request: a job that was just created has only a name
        """
        from airflow_gemini_batch.metrics.measured import of_submission
        from airflow_gemini_batch.metrics.sending import send

        self._saw_job(replace(job, model=job.model or model))
        send(of_submission(job.name, model, _tags(self), created=created))

    def _saw_end(self, job: BatchJob) -> None:
        """Note that a job that the task waited for has ended."""
        from airflow_gemini_batch.metrics.measured import of_end
        from airflow_gemini_batch.metrics.sending import send

        self._saw_job(job)
        if job.state.is_terminal:
            send(of_end(job, _tags(self)))

    def _saw_job(self, job: BatchJob) -> None:
        from airflow_gemini_batch.lineage.datasets import of_job

        self._facts = self._known().and_job(job).and_data(*of_job(job))

    def _saw_landing(self, jobs: tuple[BatchJob, ...], manifests: tuple[Manifest, ...]) -> None:
        from airflow_gemini_batch.lineage.datasets import of_job, of_landing

        facts = self._known().and_landed(manifests)
        for job in jobs:
            inputs, outputs = of_job(job)
            facts = facts.and_job(job).and_data((*inputs, *outputs))
        self._facts = facts.and_data(outputs=of_landing(manifests))


def observe_landing(context: Context, jobs: tuple[BatchJob, ...], manifests: tuple[Manifest, ...]) -> None:
    """Note that the task of a context has landed jobs.

    :param manifests: of the jobs, in their order
    """
    from airflow_gemini_batch.metrics.measured import of_landing
    from airflow_gemini_batch.metrics.sending import send

    ti = context["ti"]
    started = getattr(ti, "start_date", None)
    task = {"dag_id": ti.dag_id, "task_id": ti.task_id}
    for job, landed in zip(jobs, manifests, strict=True):
        send(of_landing(job, landed, task, started))
    operator: Any = context.get("task")
    if isinstance(operator, Observed):
        operator._saw_landing(jobs, manifests)


def planned_landing(destination_table: str, error_table: str | None, project_id: str | None) -> Facts:
    """The tables that a landing writes, if their names are full.

    :raises InvalidParameterError: they are not, or cannot be names
    """
    from airflow_gemini_batch.lineage.datasets import of_table
    from airflow_gemini_batch.lineage.facts import Facts

    tables = result_tables(destination_table, error_table, project_id or "")
    return Facts(outputs=tuple(map(of_table, tables)))


def _tags(operator: Any) -> Mapping[str, str]:
    return {"dag_id": operator.dag_id, "task_id": operator.task_id}
