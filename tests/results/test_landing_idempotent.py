"""Landing is idempotent, whenever a worker dies."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import LandingError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.results import staging
from airflow_gemini_batch.results.landing import WriteMode
from tests.results.lines import answered, asked

if TYPE_CHECKING:
    from tests.results.conftest import Lander


def put(lander: Lander, *keys: str) -> None:
    lander.put_input(*(asked(key) for key in keys))
    lander.put_output(*(answered(key) for key in keys))


def jobs(lander: Lander, kind: str) -> list[str]:
    """Ids of the BigQuery jobs of this lander's dataset, in order."""
    found = [
        each
        for each in lander.bigquery.list_jobs(max_results=1000)
        if each.job_id.startswith(f"gemini-batch-{kind}-")
        and lander.dataset.split(".")[1] in repr(each._properties)
    ]
    return [each.job_id for each in reversed(found)]


def is_landing(named: dict[str, Any]) -> bool:
    """Whether a query is the script that lands, not one that prepares it."""
    return str(named.get("job_id")).startswith("gemini-batch-land-")


def test_landing_again_reuses_the_first_landing(lander: Lander) -> None:
    put(lander, "a", "b")
    first = lander.land()
    assert lander.land() == first
    assert set(lander.rows()) == {"a", "b"}
    assert len(jobs(lander, "land")) == 1


@pytest.mark.parametrize(
    "accident", ["DELETE FROM {} WHERE key = 'a'", "DROP TABLE {}"], ids=["row deleted", "table dropped"]
)
def test_rows_that_were_removed_are_landed_again(lander: Lander, accident: str) -> None:
    put(lander, "a", "b")
    first = lander.land()
    lander.query(accident.format(lander.destination.quoted))
    second = lander.land()
    assert set(lander.rows()) == {"a", "b"}
    assert second.landed_at > first.landed_at


def test_new_output_replaces_the_rows_of_the_job(lander: Lander) -> None:
    put(lander, "a", "b")
    lander.land()
    put(lander, "b", "c", "d")
    lander.land()
    assert set(lander.rows()) == {"b", "c", "d"}


def test_the_write_mode_keeps_or_replaces_rows_of_other_jobs(lander: Lander) -> None:
    other = replace(lander, job_id="other")
    for each, keys in ((lander, "ab"), (other, "cd")):
        put(each, *keys)
        each.land()
    assert set(lander.rows()) == {"a", "b", "c", "d"}
    other.land(write_mode=WriteMode.TRUNCATE)
    assert set(lander.rows()) == {"c", "d"}
    assert {row["job_name"] for row in lander.rows().values()} == {str(other.job().name)}


def test_several_jobs_land_in_one_table_at_once(lander: Lander) -> None:
    landers = [replace(lander, job_id=f"job{number}") for number in range(3)]
    for each in landers:
        put(each, f"{each.job_id}-a", f"{each.job_id}-b")
    landers[0].land()  # so that it has rows to replace
    landers[0].put_output(answered("job0-a"))
    with ThreadPoolExecutor(3) as pool:
        manifests = list(pool.map(lambda each: each.land(), landers))
    assert [manifest.rows for manifest in manifests] == [2, 2, 2]
    assert set(lander.rows()) == {f"job{number}-{letter}" for number in range(3) for letter in "ab"}


def test_one_job_landed_by_two_workers_at_once(lander: Lander, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finds the first one's script running, waits for it and returns the same manifest."""
    put(lander, "a", "b")
    started = Event()
    query = lander.bigquery.query

    def start_and_signal(*arguments: Any, **named: Any) -> Any:
        job = query(*arguments, **named)
        if is_landing(named):
            started.set()
        return job

    monkeypatch.setattr(lander.bigquery, "query", start_and_signal)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lander.land)
        assert started.wait(60)
        second = pool.submit(lander.land)
        assert first.result() == second.result()
    assert len(jobs(lander, "land")) == 1
    assert set(lander.rows()) == {"a", "b"}


def test_a_worker_killed_after_the_loads(lander: Lander, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try finds the staging tables filled and does not load them again."""
    put(lander, "a")

    query = lander.bigquery.query

    def die(*arguments: Any, **named: Any) -> Any:
        if is_landing(named):
            raise KeyboardInterrupt
        return query(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(lander.bigquery, "query", die)
        with pytest.raises(KeyboardInterrupt):
            lander.land()
    staged = {name for name in lander.tables() if name.startswith("gemini_batch_staging_")}
    assert len(staged) == 2
    for name in staged:
        expires = lander.bigquery.get_table(f"{lander.dataset}.{name}").expires
        assert expires.timestamp() == pytest.approx(time.time() + staging.LIFE.total_seconds(), abs=300)
    lander.land()
    assert len(jobs(lander, "load")) == 2
    assert lander.tables() == {"results", "results_errors", "results_usage"}


def test_a_worker_killed_while_the_script_runs(lander: Lander, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script keeps running; the next try waits for it and reads its counts."""
    put(lander, "a", "b")
    query = lander.bigquery.query

    def start_and_die(*arguments: Any, **named: Any) -> Any:
        job = query(*arguments, **named)
        if is_landing(named):
            raise KeyboardInterrupt
        return job

    with monkeypatch.context() as patch:
        patch.setattr(lander.bigquery, "query", start_and_die)
        with pytest.raises(KeyboardInterrupt):
            lander.land()
    assert lander.land().rows == 2
    assert len(jobs(lander, "land")) == 1
    assert set(lander.rows()) == {"a", "b"}


def test_the_id_of_a_failed_job_is_not_used_again(lander: Lander) -> None:
    stem = f"test-{lander.dataset.split('.')[1]}"

    def start(sql: str) -> Any:
        return lambda job_id: lander.bigquery.query(sql, job_id=job_id, job_retry=None)

    with pytest.raises(LandingError, match=f"{stem}-1 failed, nothing was landed: "):
        bigquery_job.run(
            lander.bigquery, None, [bigquery_job.Step(stem, start("SELECT * FROM nowhere.nothing"), bool)]
        )
    good = bigquery_job.Step(stem, start("SELECT 1"), lambda _: True)
    for _ in range(2):
        (job,) = bigquery_job.run(lander.bigquery, None, [good])
        assert job.job_id == f"{stem}-2"


def test_a_job_whose_result_is_gone_runs_again(lander: Lander) -> None:
    stem = f"test-{lander.dataset.split('.')[1]}"
    for attempt in (1, 2):
        step = bigquery_job.Step(
            stem,
            lambda job_id: lander.bigquery.query("SELECT 1", job_id=job_id, job_retry=None),
            lambda _: False,
        )
        (job,) = bigquery_job.run(lander.bigquery, None, [step])
        assert job.job_id == f"{stem}-{attempt}"


def test_data_that_bigquery_quotes_stays_out_of_the_error(lander: Lander) -> None:
    secret = "the whole text of a user's confidential prompt"
    step = bigquery_job.Step(
        f"test-{lander.dataset.split('.')[1]}",
        lambda job_id: lander.bigquery.query(
            f"SELECT JSON_QUERY('{{\"{secret.replace(chr(39), '')}', '$.a')", job_id=job_id, job_retry=None
        ),
        bool,
    )
    with pytest.raises(LandingError) as caught:
        bigquery_job.run(lander.bigquery, None, [step])
    assert "confidential" not in str(caught.value)


def test_the_same_job_id_in_two_projects_is_two_jobs(lander: Lander) -> None:
    """Its rows must not be replaced."""
    put(lander, "a")
    lander.land()
    elsewhere = lander.job(name=JobName("other-project", "europe-west4", lander.job_id))
    lander.land(job=elsewhere)
    assert len(lander.query(f"SELECT key FROM {lander.destination.quoted}")) == 2
