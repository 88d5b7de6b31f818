"""Many jobs landed by one script: their rows are those of landing each alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import CompletionStats, JobState
from airflow_gemini_batch.exceptions import KeylessRowsError
from airflow_gemini_batch.jobs.identity import RunIdentity
from airflow_gemini_batch.results.landing import LandingRequest, WriteMode, land
from airflow_gemini_batch.results.row_counts import Tables, rivals_script
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.summary import LandedJobs
from tests.results.conftest import Lander
from tests.results.lines import answered, asked, failed, request, response

if TYPE_CHECKING:
    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.results.summary import Manifest

RUN = RunIdentity("dag", "land", "run-1")


class Jobs:
    """Jobs of every kind, whose keys and requests are the same in part."""

    def __init__(self, lander: Lander) -> None:
        self.lander = lander
        self.all = [
            self._with_keys(),
            self._that_went_badly(),
            self._without_keys(),
            self._whose_input_is_gone(),
            self._in_bigquery(),
            self._of_several_objects(),
        ]
        # Jobs may share their input, as when one prompt is given to two models.
        self.all += [self._that_shares(self.all[0]), self._that_shares(self.all[5])]

    def _next(self) -> Lander:
        return Lander(self.lander.bucket, self.lander.dataset, self.lander.bigquery, self.lander.storage)

    def _with_keys(self) -> BatchJob:
        one = self._next()
        one.put_input(asked("a", "x"), asked("b", "y"), asked("7", "seven"))
        one.put_output(
            answered("b", "B", text="y"), answered("a", "A", text="x"), answered(7, "S", text="seven")
        )
        return one.job()

    def _that_went_badly(self) -> BatchJob:
        one = self._next()
        one.put_input(*(asked(key, key) for key in ("a", "b", "lost", "torn")))
        searched = response("A2")
        searched["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["q1", "q2"]}
        earlier = "2026-11-01T18:00:00.000+00:00"
        older = answered("a", "older", text="a", processed_time=earlier)
        lines = [answered("a", searched, text="a"), older]
        one.put_output(*lines, failed("b", 429, "RESOURCE_EXHAUSTED"), '{"key": "torn", "request": {"con')
        return one.job(state=JobState.FAILED)

    def _without_keys(self) -> BatchJob:
        one = self._next()
        one.put_input(
            asked(text="x"),
            asked(text="twice"),
            asked(text="twice"),
            asked("k", "first"),
            asked("k", "second"),
        )
        one.put_output(
            answered(answer="1", text="twice"),
            answered(answer="2", text="x"),
            answered(answer="3", text="twice"),
            answered("k", "of second", text="second"),
            answered("k", "of first", text="first"),
        )
        return one.job()

    def _whose_input_is_gone(self) -> BatchJob:
        one = self._next()
        one.put_output(answered("a", "from output"), answered("z", "last"))
        return one.job(stats=CompletionStats(successful=2, failed=0, incomplete=1))

    def _in_bigquery(self) -> BatchJob:
        one = self._next()
        given = [{"key": key, "request": request(key)} for key in ("a", "t")]
        columns = {"key": "STRING", "request": "JSON"}
        place = one.put_table(f"in_{one.job_id}", columns, given)
        done = [{**row, "response": response(row["key"].upper()), "status": ""} for row in given]
        output = one.put_table(f"out_{one.job_id}", {**columns, "response": "JSON", "status": "STRING"}, done)
        return one.job(input_uris=(place,), output_uri=output, output_location=output)

    def _of_several_objects(self) -> BatchJob:
        one = self._next()
        one.put("first.jsonl", [asked("a", "from first"), asked("p", "p")])
        one.put("second.jsonl", [asked("q", "q")])
        one.put_output(answered("a", "F", text="from first"), answered("q", "Q", text="q"))
        one.put_output(answered("p", "P", text="p"), name="predictions.jsonl-00001-of-00002")
        names = ("first.jsonl", "second.jsonl")
        return one.job(input_uris=tuple(f"gs://{one.bucket}/{one.job_id}/{name}" for name in names))

    def _that_shares(self, job: BatchJob) -> BatchJob:
        one = self._next()
        one.put_output(answered("a", "shared", text="x"))
        return one.job(input_uris=job.input_uris)

    def land(
        self, jobs: list[BatchJob], table: str, mode: WriteMode = WriteMode.APPEND
    ) -> tuple[Manifest, ...]:
        destination = self.lander.destination.sibling(table)
        errors = destination.sibling(f"{table}_errors")
        request = LandingRequest(tuple(jobs), destination, errors, RUN, write_mode=mode)
        return land(request, bigquery=self.lander.bigquery, storage=self.lander.storage)

    def rows(self, table: str) -> list[str]:
        """All rows of a table, without what differs between two landings."""
        found = self.lander.query(f"SELECT * FROM {self.lander.destination.sibling(table).quoted}")
        ignored = {"landed_at", "results_table"}
        return sorted(repr({name: row[name] for name in row if name not in ignored}) for row in found)


@pytest.fixture
def jobs(lander: Lander) -> Jobs:
    return Jobs(lander)


def facts(manifest: Manifest) -> Any:
    different = {"landed_at", "destination_table", "error_table"}
    return {name: value for name, value in manifest.to_dict().items() if name not in different}


def test_rows_and_manifests_are_those_of_landing_each_alone(jobs: Jobs) -> None:
    alone = [jobs.land([job], "alone")[0] for job in jobs.all]
    together = jobs.land(jobs.all, "together")
    assert [facts(each) for each in together] == [facts(each) for each in alone]
    assert jobs.rows("together") == jobs.rows("alone")
    assert jobs.rows("together_errors") == jobs.rows("alone_errors")
    assert len({each.landed_at for each in together}) == 1
    # Landing again, together or alone, changes nothing.
    assert jobs.land(jobs.all, "together") == together
    jobs.land([jobs.all[1]], "together")
    jobs.land(jobs.all[:2], "together")
    assert jobs.rows("together") == jobs.rows("alone")
    assert jobs.rows("together_errors") == jobs.rows("alone_errors")


def test_each_row_says_from_where_its_request_is(jobs: Jobs) -> None:
    jobs.land(jobs.all, "results")
    found = jobs.lander.query(f"SELECT job_name, key, source_uri FROM {jobs.lander.destination.quoted}")
    keys, _, _, gone, table, several, shares, _ = jobs.all
    origins = {(row["job_name"], row["key"]): row["source_uri"] for row in found}
    assert origins[str(keys.name), "a"] == keys.input_uris[0]
    assert origins[str(shares.name), "a"] == keys.input_uris[0]
    assert origins[str(gone.name), "a"] is None
    assert origins[str(table.name), "t"] == table.input_uris[0]
    assert [origins[str(several.name), key] for key in "apq"] == [several.input_uris[n] for n in (0, 0, 1)]


def test_a_merge_keeps_one_row_a_key_of_all_jobs(jobs: Jobs) -> None:
    merged = [jobs.all[n] for n in (0, 1, 3, 4, 5)]
    for job in merged:
        jobs.land([job], "alone", WriteMode.MERGE)
    jobs.land(merged, "together", WriteMode.MERGE)
    found = {}
    for table in ("alone", "together"):
        name = jobs.lander.destination.sibling(table).quoted
        found[table] = [(r["key"], r["status"]) for r in jobs.lander.query(f"SELECT key, status FROM {name}")]
    keys = [key for key, _ in found["together"] if key]
    assert len(keys) == len(set(keys))
    # Of successes with one key, each way keeps one; which is the latest, the times of the answers say.
    assert sorted(found["together"], key=str) == sorted(found["alone"], key=str)
    with pytest.raises(KeylessRowsError, match="2 rows have no key"):
        jobs.land(jobs.all, "more", WriteMode.MERGE)


def test_truncating_keeps_only_these_jobs(jobs: Jobs) -> None:
    jobs.land(jobs.all[:3], "results")
    kept = jobs.land(jobs.all[3:], "results", WriteMode.TRUNCATE)
    assert len(jobs.rows("results")) == sum(each.rows for each in kept)
    assert {str(job.name) for job in jobs.all[3:]} == {
        row["job_name"] for row in jobs.lander.query(f"SELECT job_name FROM {jobs.lander.destination.quoted}")
    }


def test_the_sum_of_the_manifests(jobs: Jobs) -> None:
    landed = LandedJobs(jobs.land(jobs.all, "results"))
    total = landed.to_dict()
    counts = {status: count for status, count in total["counts"].items() if count}
    assert counts == {"succeeded": 18, "failed": 1, "malformed": 1, "missing": 6}
    assert landed.rows == len(jobs.rows("results")) == 26
    assert total["duplicates"] == 1
    assert total["search_queries"] == 2
    assert [each["job_name"] for each in total["jobs"]] == [str(job.name) for job in jobs.all]
    assert total["cost_usd"] == pytest.approx(sum(each["cost_usd"] for each in total["jobs"]))
    assert not total["input_known"]
    assert total["tokens"]["total"] == sum(each["tokens"]["total"] for each in total["jobs"])
    assert str(landed).endswith("of 8 batch jobs")
    landed.check_rows()
    lost = replace(landed.manifests[0], counts={**landed.manifests[0].counts, RowStatus.SUCCEEDED: 9})
    with pytest.raises(Exception, match="The same is true of 1 more"):
        LandedJobs((lost, lost)).check_rows()


def test_lists_that_overlap_land_each_job_once(jobs: Jobs) -> None:
    """Their BigQuery jobs have different IDs, so nothing but the script keeps the rows from being doubled."""
    first, shared, last = jobs.all[0], jobs.all[1], jobs.all[5]
    jobs.land([first, shared, last], "expected")
    for attempt in range(3):
        table = f"together_{attempt}"
        gate = Barrier(2)

        def land_at_once(some: list[BatchJob], table: str = table, gate: Barrier = gate) -> None:
            gate.wait()
            jobs.land(some, table)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(land_at_once, ([first, shared], [shared, last])))
        for name in (table, f"{table}_errors"):
            assert jobs.rows(name) == jobs.rows(name.replace(table, "expected"))


def test_of_two_landings_that_were_committed_the_later_stays(jobs: Jobs) -> None:
    """As two projects may leave them: both have found no rows of the job, and both have written theirs."""
    from google.cloud import bigquery

    job = jobs.all[1]
    jobs.land([job], "results")
    tables = Tables(jobs.lander.destination, jobs.lander.error_table)
    kept = jobs.rows("results"), jobs.rows("results_errors")
    for table in (tables.results, tables.errors):
        jobs.lander.query(
            f"INSERT INTO {table.quoted} SELECT * REPLACE "
            f"(TIMESTAMP_SUB(landed_at, INTERVAL 1 SECOND) AS landed_at) FROM {table.quoted}"
        )
    assert len(jobs.rows("results")) == 2 * len(kept[0])
    since = bigquery.ScalarQueryParameter("since", "TIMESTAMP", datetime(1970, 1, 1, tzinfo=UTC))
    names = bigquery.ArrayQueryParameter("job_names", "STRING", [str(job.name)])
    config = bigquery.QueryJobConfig(query_parameters=[since, names])
    jobs.lander.bigquery.query_and_wait(rivals_script(tables), job_config=config)
    assert (jobs.rows("results"), jobs.rows("results_errors")) == kept
