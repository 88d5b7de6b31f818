"""The jobs whose requests failed: which model and location a round takes from them, and where it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import InvalidParameterError, JobNotFoundError
from airflow_gemini_batch.jobs.spec import LABEL_PREFIXES
from airflow_gemini_batch.requests.in_bigquery.claims import Place
from airflow_gemini_batch.requests.in_bigquery.from_failures import source_models

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.cloud import bigquery as bq

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook


@dataclass(frozen=True)
class Source:
    """What a round takes from the jobs whose requests failed.

    :param output_uri: empty if those jobs were deleted
    :param labels: that a user has set on them
    """

    output_uri: str
    labels: dict[str, str]


class Sources:
    """Reads jobs by name, each once. A job that was deleted from the service is ``None``."""

    def __init__(self, hook: GeminiBatchHook, results: TableName, bigquery: bq.Client, location: str) -> None:
        self._hook = hook
        self._results = results
        self._bigquery = bigquery
        self._location = location
        self._jobs: dict[str, BatchJob | None] = {}

    def places(self, names: Iterable[str], model: str | None) -> dict[str, Place | None]:
        """Return where the failures of each job are resubmitted; ``None`` if no model is known.

        The model of a deleted job is the one that its responses name, or that of the others in its location.

        :param model: chosen by the user for all
        """
        names = sorted(names)
        places: dict[str, Place | None] = {}
        for name in names:
            if model and (place := parsed(name)):
                places[name] = Place(place.project, place.location, model)
            elif job := self.job(name):
                places[name] = Place(job.name.project, job.name.location, job.model)
        deleted = [name for name in names if name not in places]
        known = self._models(deleted)
        for name in deleted:
            place = parsed(name)
            others = {each.model for each in places.values() if each and place and _same(each, place)}
            models = {known[name]} if name in known else others
            is_known = place and len(models) == 1
            places[name] = Place(place.project, place.location, *models) if place and is_known else None
        return places

    def source(self, names: Iterable[str]) -> Source:
        """Return what to take from the first of some jobs that still exists."""
        for job in filter(None, map(self.job, sorted(names, reverse=True))):
            labels = {key: value for key, value in job.labels.items() if not key.startswith(LABEL_PREFIXES)}
            return Source(job.output_uri or "", labels)
        return Source("", {})

    def job(self, name: str) -> BatchJob | None:
        """Return a job as the service describes it."""
        if name not in self._jobs:
            job_name = parsed(name)
            try:
                self._jobs[name] = self._hook.get_job(job_name) if job_name else None
            except JobNotFoundError:
                self._jobs[name] = None
        return self._jobs[name]

    def _models(self, names: list[str]) -> dict[str, str]:
        if not names:
            return {}
        found = source_models(self._results, tuple(names), self._bigquery, self._location)
        return {
            name: f"publishers/google/models/{model}" for name, model in found.items() if "/" not in model
        }


def parsed(name: str) -> JobName | None:
    """Parse the name of a job as the tables have it; ``None`` if it is not one."""
    try:
        return JobName.parse(name)
    except InvalidParameterError:
        return None


def _same(place: Place, name: JobName) -> bool:
    return (place.project, place.location) == (name.project, name.location)
