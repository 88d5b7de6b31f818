"""Remember what the BigQuery emulator looks up in its catalog until something is written, and its jobs.

It looks each table up several times per statement, and saves each job three times; together that took longer
than the statements. Jobs are forgotten when the emulator stops. Runs in the emulator's own environment and
imports nothing from this package.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import writes

if TYPE_CHECKING:
    from collections.abc import Callable

_CATALOG = re.compile(r"\bduckdb_\w+\(\)|\bemulator\.\w+|__ducklake_metadata_")
_MAX_REMEMBERED = 10_000


def adapt() -> None:
    """Replace the look-ups in this process; call it after the other modules have changed them."""
    from local_bigquery.catalog import metadata, row_access, tables
    from local_bigquery.engine import database
    from local_bigquery.jobs import store

    database.fetch = _remembering(database.fetch)
    metadata.fetch = row_access.fetch = _remembering(metadata.fetch)
    tables.columns = _remembering_columns(tables.columns)
    jobs = _Jobs()
    store.save, store.load, store.list_, store.delete = jobs.save, jobs.load, jobs.list_, jobs.delete


class _Memory:
    """What was looked up, until something is written."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[int, list[Any]]] = {}

    def get(self, key: tuple[Any, ...], count: int, look_up: Callable[[], list[Any]]) -> list[Any]:
        """Return what is known, or look it up.

        :param count: how often was written; read before the look-up, so that a write in between outdates it
        """
        if key not in self._known or self._known[key][0] != count:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = (count, look_up())
        return self._known[key][1]


def _remembering(fetch: Any) -> Any:
    memory = _Memory()

    def fetch_once(sql: str, params: list[Any] | None = None) -> list[Any]:
        if not _CATALOG.search(sql):
            rows: list[Any] = fetch(sql, params)
            return rows
        key = (sql, *map(repr, params or ()))
        return memory.get(key, writes.count_of(sql), lambda: fetch(sql, params))

    return fetch_once


def _remembering_columns(columns: Any) -> Any:
    from local_bigquery.catalog.tables import RESULTS

    memory = _Memory()

    def columns_once(*table: str) -> list[Any]:
        if table[1] == RESULTS:
            return list(columns(*table))
        return list(memory.get(table, writes.count_of_tables(), lambda: columns(*table)))

    return columns_once


class _Jobs:
    """The functions of ``local_bigquery.jobs.store``."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str], str] = {}

    def save(self, job: Any) -> Any:
        self._jobs[job.jobReference.projectId, job.jobReference.jobId] = json.dumps(job.dump())
        return job

    def load(self, project: str, job_id: str) -> Any:
        from local_bigquery.models import Job

        text = self._jobs.get((project, job_id))
        return text and Job.model_validate_json(text)

    def list_(
        self,
        project: str,
        states: list[str] | None = None,
        parent_job_id: str | None = None,
        min_creation_time: int | None = None,
        max_creation_time: int | None = None,
    ) -> list[Any]:
        from local_bigquery.models import Job

        found = [
            (-created, job.jobReference.jobId, job)
            for (owner, _), text in list(self._jobs.items())
            if owner == project
            for job in (Job.model_validate_json(text),)
            for created in (int(job.statistics.creationTime),)
            if job.statistics.parentJobId == parent_job_id
            and (states is None or job.status.state in states)
            and (min_creation_time is None or created >= min_creation_time)
            and (max_creation_time is None or created <= max_creation_time)
        ]
        return [job for *_, job in sorted(found, key=lambda each: each[:2])]

    def delete(self, project: str, job_id: str) -> None:
        for key, text in list(self._jobs.items()):
            job = json.loads(text)
            if key == (project, job_id) or job["statistics"].get("parentJobId") == job_id:
                del self._jobs[key]
