"""The jobs whose requests failed: which model and location a round takes from them, and where it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.reading import existing_jobs
from airflow_gemini_batch.jobs.spec import own_labels
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
    :param labels: that users have set on all of them, with the same values
    :param differing: keys of their other labels
    """

    output_uri: str
    labels: dict[str, str]
    differing: tuple[str, ...] = ()


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
        if not model:
            self._read(names)
        for name in names:
            if model and (place := parsed(name)):
                places[name] = Place(place.project, place.location, model)
            elif job := self._jobs.get(name):
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
        """Return what to take from those of some jobs that still exist."""
        jobs = self._read(names)
        if not jobs:
            return Source("", {})
        # Rows of one job must not be booked on the labels of another.
        own = [set(own_labels(job.labels).items()) for job in jobs]
        shared = set.intersection(*own)
        differing = {key for key, _ in set.union(*own) - shared}
        return Source(jobs[-1].output_uri or "", dict(sorted(shared)), tuple(sorted(differing)))

    def _read(self, names: Iterable[str]) -> list[BatchJob]:
        """Return those jobs that still exist, as the service describes them."""
        wanted = {name: parsed(name) for name in sorted(names)}
        new = {job_name: name for name, job_name in wanted.items() if job_name and name not in self._jobs}
        # The service may answer with the number of the project where a name has its ID.
        found = {job.name.job_id: job for job in existing_jobs(self._hook, [*new])}
        self._jobs |= {name: found.get(job_name.job_id) for job_name, name in new.items()}
        return [job for job in map(self._jobs.get, wanted) if job]

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
