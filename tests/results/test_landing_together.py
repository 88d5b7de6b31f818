"""Landings at the same time in one table, and tables that several landings share."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.jobs.identity import RunIdentity
from airflow_gemini_batch.requests.in_bigquery.statements import Failures
from airflow_gemini_batch.results.destination import create_table, lock_of, lock_script
from airflow_gemini_batch.results.landing import LandingRequest, WriteMode, land
from tests.results.conftest import Lander
from tests.results.lines import answered, asked, failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.results.summary import Manifest

MERGE, TRUNCATE = WriteMode.MERGE, WriteMode.TRUNCATE


def put(lander: Lander, *keys: str) -> Lander:
    lander.put_input(*(asked(key) for key in keys))
    lander.put_output(*(answered(key) for key in keys))
    return lander


def together(*calls: Callable[[], Any]) -> list[Any]:
    gate = Barrier(len(calls))

    def call(number: int) -> Any:
        gate.wait()
        return calls[number]()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, range(len(calls))))


def keys(lander: Lander) -> Counter[str]:
    return Counter(row["key"] for row in lander.query(f"SELECT key FROM {lander.destination.quoted}"))


def test_merges_of_the_same_new_keys(lander: Lander) -> None:
    jobs = [put(replace(lander, job_id=f"job{number}"), "a", "b") for number in range(3)]
    together(*(lambda job=job: job.land(write_mode=MERGE) for job in jobs))  # type: ignore[misc]
    assert keys(lander) == {"a": 1, "b": 1}


def test_one_job_landed_with_different_options(lander: Lander) -> None:
    put(lander, "a", "b")
    together(lander.land, lambda: lander.land(include_request=False), lambda: lander.land(write_mode=MERGE))
    assert keys(lander) == {"a": 1, "b": 1}


def test_rows_of_a_landing_with_other_options_are_not_taken_for_its_own(lander: Lander) -> None:
    """The same number of rows is there, but without the requests."""
    put(lander, "a")
    lander.land()
    lander.land(include_request=False)
    assert lander.rows()["a"]["request"] is None
    lander.land()
    assert lander.rows()["a"]["request"] is not None


def test_the_lock_is_created_by_several_workers_at_once(lander: Lander) -> None:
    lock = lock_of(lander.destination)
    together(*[lambda: create_table(lock_script(lock), lock, lander.bigquery, "us-central1")] * 4)
    assert len(lander.query(f"SELECT * FROM {lock.quoted}")) == 1


@dataclass
class Mapped(Lander):
    """Lands as one of the mapped tasks of a DAG run."""

    run: RunIdentity = field(default_factory=lambda: RunIdentity("dag", "land", "run-1", 0))
    results: TableName | None = None
    errors: TableName | None = None

    @property
    def destination(self) -> TableName:
        return self.results or super().destination

    @property
    def error_table(self) -> TableName:
        return self.errors or super().error_table

    def land(self, *_: Any, **more: Any) -> Manifest:
        request = LandingRequest((self.job(),), self.destination, self.error_table, self.run, **more)
        (landed,) = land(request, bigquery=self.bigquery, storage=self.storage)
        return landed


@pytest.fixture
def mapped(lander: Lander) -> Mapped:
    return Mapped(lander.bucket, lander.dataset, lander.bigquery, lander.storage)


def run(mapped: Mapped, job_id: str, run_id: str = "run-1", index: int = 0, task: str = "land") -> Mapped:
    job = replace(mapped, job_id=job_id, run=RunIdentity("dag", task, run_id, index))
    return put(job, f"{job_id}-a", f"{job_id}-b")


def landed_jobs(mapped: Mapped) -> set[str]:
    found = mapped.query(f"SELECT DISTINCT job_name FROM {mapped.destination.quoted}")
    return {row["job_name"].rpartition("/")[2] for row in found}


def test_truncate_keeps_the_jobs_of_the_same_dag_run(mapped: Mapped) -> None:
    run(mapped, "old", "run-0").land()
    jobs = [run(mapped, f"job{index}", index=index) for index in range(2)]
    together(*(lambda job=job: job.land(write_mode=TRUNCATE) for job in jobs))  # type: ignore[misc]
    assert landed_jobs(mapped) == {"job0", "job1"}
    # The rows of a retry in the same DAG run stay too.
    run(mapped, "retried", index=0, task="retry").land()
    # Cleared, with a new job: it replaces the job that this map index has landed.
    run(mapped, "again", index=1).land(write_mode=TRUNCATE)
    assert landed_jobs(mapped) == {"job0", "retried", "again"}
    run(mapped, "next", "run-2").land(write_mode=TRUNCATE)
    assert landed_jobs(mapped) == {"next"}


def failing(mapped: Mapped, table: str, job_id: str, *keys: str) -> Mapped:
    """A job whose rows all fail, landed in a table of its own with an error table that all share."""
    job = replace(
        mapped,
        job_id=job_id,
        results=mapped.destination.sibling(table),
        errors=mapped.destination.sibling("all_errors"),
    )
    job.put_input(*(asked(key) for key in keys))
    job.put_output(*(failed(key, 429, "RESOURCE_EXHAUSTED") for key in keys))
    return job


def open_keys(mapped: Mapped) -> list[str]:
    failures = Failures(mapped.destination, mapped.error_table)
    templates = ("failed_since", "failures")
    script = "\n".join(render(f"requests/in_bigquery/{name}", failures=failures) for name in templates)
    found = mapped.query(script)
    return sorted(row["key"] for row in found)


def test_results_tables_that_share_an_error_table(mapped: Mapped) -> None:
    first, second = (failing(mapped, table, f"job-{table}", "a", "b") for table in ("one", "two"))
    first.land(write_mode=MERGE)
    second.land(write_mode=MERGE)
    put(replace(second, job_id="good"), "a").land(write_mode=MERGE)
    assert (open_keys(first), open_keys(second)) == (["a", "b"], ["b"])
    put(replace(second, job_id="truncated"), "a").land(
        write_mode=TRUNCATE
    )  # the jobs of the same task and map index go
    assert (open_keys(first), open_keys(second)) == (["a", "b"], [])


def test_errors_of_earlier_versions_do_not_name_their_table(mapped: Mapped) -> None:
    """They belong to the results table that has rows of their job."""
    first, second = (failing(mapped, table, f"job-{table}", "a") for table in ("one", "two"))
    for each in (first, second):
        each.land()
    mapped.query(f"UPDATE {first.error_table.quoted} SET results_table = NULL WHERE TRUE")
    put(replace(second, job_id="truncated"), "x").land(write_mode=TRUNCATE)
    assert (open_keys(first), open_keys(second)) == (["a"], [])
