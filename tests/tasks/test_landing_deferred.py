"""Landing that waits in the triggerer: nothing is started twice, lost or reported twice."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_gemini_batch.emulator.faults.plan import FaultPlan, RowFault, RowFaultKind
from airflow_gemini_batch.exceptions import LandingError, QualityGateError
from airflow_gemini_batch.gcp import bigquery_job
from airflow_gemini_batch.hooks import bigquery_jobs
from airflow_gemini_batch.jobs import polling
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.tasks import landing_wait
from airflow_gemini_batch.triggers.bigquery_jobs import BigQueryJobsTrigger
from tests.slow_bigquery import CONFLICT, TRANSIENT, SlowBigQuery
from tests.tasks.landed import NOTHING, Landed, add_image, expected, fired, rows
from tests.waits import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.cloud import bigquery

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.task_instance import TaskInstance

Context = Any


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing_wait, "ON_WORKER", 0.3)
    for pause in ("_RETRY_SECONDS", "_MAX_RETRY_SECONDS"):
        monkeypatch.setattr(bigquery_job, pause, 0.01)
    monkeypatch.setattr(polling, "_FIRST_WAIT", 0.05)


@pytest.fixture
def slow(job_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowBigQuery]:
    """BigQuery, as the tasks see it from now on."""
    with SlowBigQuery(os.environ["BIGQUERY_EMULATOR_HOST"]) as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        yield server


@pytest.fixture
def dropped() -> tuple[int, ...]:
    """Which rows have no output."""
    return ()


@pytest.fixture
def job_name(
    submit_args: dict[str, Any], context: Context, vertex: Emulator, dropped: tuple[int, ...]
) -> str:
    if dropped:
        vertex.faults = FaultPlan(rows=[RowFault(kind=RowFaultKind.DROPPED, nth=dropped)])
    submit = GeminiBatchSubmitOperator(**submit_args, wait_for_completion=True, deferrable=False)
    return str(submit.execute(context))


@dataclass
class Task:
    """The task that lands the job; each step is an operator of its own, as each is a process of its own."""

    context: Context
    settings: dict[str, Any]
    slow: SlowBigQuery
    bigquery: bigquery.Client

    def operator(self, **more: Any) -> GeminiBatchResultsToBigQueryOperator:
        return GeminiBatchResultsToBigQueryOperator(task_id="land", **{**self.settings, **more})

    def begin(self, **more: Any) -> dict[str, Any]:
        return self.operator(**more).execute(self.context)

    def deferred(self, kind: str = "land", **more: Any) -> TaskDeferred:
        """Run until the task waits for a kind of job; on a busy machine it may wait for others before."""
        with pytest.raises(TaskDeferred) as caught:
            self.begin(**more)
        deferred = caught.value
        while f"-{kind}-" not in deferred.trigger.job_ids[0]:
            with pytest.raises(TaskDeferred) as again:
                self.resume(deferred, **more)
            deferred = again.value
        return deferred

    def resume(self, deferred: TaskDeferred, **more: Any) -> dict[str, Any]:
        event = asyncio.run(fired(deferred.trigger))
        return self.resume_with(json.loads(json.dumps(event)), **more)

    def resume_with(self, event: dict[str, Any], **more: Any) -> dict[str, Any]:
        return self.operator(**more).execute_complete(self.context, event)

    def finish(
        self, event: dict[str, Any] | None = None, **more: Any
    ) -> tuple[dict[str, Any], list[list[str]]]:
        """Run to the end; return the manifest, and the jobs that each deferral has waited for."""
        waits: list[list[str]] = []

        def step() -> dict[str, Any]:
            return self.resume_with(event, **more) if event else self.begin(**more)

        while True:
            try:
                return step(), waits
            except TaskDeferred as deferred:
                self.slow.finish()
                waits.append(deferred.trigger.job_ids)
                event = json.loads(json.dumps(asyncio.run(fired(deferred.trigger))))

    def keys(self) -> list[str]:
        table = self.settings["destination_table"]
        return sorted(row["key"] for row in self.bigquery.query(f"SELECT key FROM `{table}`").result())


@pytest.fixture
def task(
    job_name: str, slow: SlowBigQuery, dataset: str, context: Context, bigquery_client: bigquery.Client
) -> Task:
    settings = {"job_name": job_name, "destination_table": f"{dataset}.answers"}
    return Task(context, settings, slow, bigquery_client)


KEYS = ["row-0", "row-1", "row-2"]


def test_each_step_is_waited_for_in_the_triggerer_and_done_once(
    task: Task, slow: SlowBigQuery, caplog: pytest.LogCaptureFixture, ti: TaskInstance
) -> None:
    with caplog.at_level(logging.INFO, logger="airflow_gemini_batch"):
        manifest, waits = task.finish()
    assert manifest["counts"]["succeeded"] == 3
    assert task.keys() == KEYS
    assert Counter(slow.kinds()) == {"load": 2, "schemas": 1, "land": 1}
    assert [sorted({each.split("-")[2] for each in ids}) for ids in waits] == [
        ["load"],
        ["schemas"],
        ["land"],
    ]
    assert len(waits[0]) == 2  # loads run in parallel, and are waited for together
    lines = Counter(each.message for each in caplog.records if each.name.startswith("airflow_gemini_batch"))
    assert [line for line, count in lines.items() if count > 1] == []
    assert len([line for line in lines if line.startswith("BigQuery is working. Waiting in the trig")]) == 3
    # A later try finds all of it.
    assert task.begin() == manifest
    assert len(slow.started) == 4


def test_lines_about_the_schema_are_logged_once(
    task: Task, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_gemini_batch.results import landing

    def disagree(*arguments: Any) -> None:
        landing.log.warning("No typed columns")

    monkeypatch.setattr(landing, "infer_schema", disagree)
    with caplog.at_level(logging.INFO, logger="airflow_gemini_batch"):
        _, waits = task.finish()
    assert len(waits) == 2
    assert len([each for each in caplog.records if each.message == "No typed columns"]) == 1


def test_the_trigger_has_only_names_and_times(task: Task, slow: SlowBigQuery) -> None:
    slow.slow = "-land-"
    deferred = task.deferred(execution_timeout=timedelta(minutes=5))
    path, kwargs = deferred.trigger.serialize()
    assert path == f"{BigQueryJobsTrigger.__module__}.{BigQueryJobsTrigger.__name__}"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert kwargs["resume"].keys() == {"job_name", "started", "logged", "deadline"}
    assert set(kwargs["resume"]["started"]) == set(slow.started)
    assert "Hello" not in repr(kwargs)
    assert "SELECT" not in repr(kwargs)
    assert deferred.method_name == "execute_complete"
    assert timedelta(hours=1) < deferred.timeout < timedelta(hours=1, minutes=5)


def test_a_task_that_is_not_to_be_deferred_waits_on_its_worker(task: Task, slow: SlowBigQuery) -> None:
    with ThreadPoolExecutor(1) as pool:
        landed = pool.submit(task.operator(deferrable=False)._land, task.context)
        while not landed.done():
            slow.finish()
        assert landed.result()["counts"]["succeeded"] == 3


def test_a_short_landing_stays_on_the_worker(
    task: Task, slow: SlowBigQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing_wait, "ON_WORKER", 60.0)
    slow.slow = "^$"
    manifest, waits = task.finish()
    assert (manifest["counts"]["succeeded"], waits) == (3, [])


@pytest.mark.parametrize("kind", ["load", "land"])
def test_an_error_of_its_own_is_reported_after_the_wait(task: Task, slow: SlowBigQuery, kind: str) -> None:
    slow.endings = [(f"-{kind}-", {"reason": "invalidQuery", "message": "Division by zero: x"})]
    with pytest.raises(
        LandingError, match=rf"gemini-batch-{kind}-\S+-1 failed, nothing was landed: invalidQ"
    ):
        task.finish()
    assert slow.kinds().count("land") == (kind == "land")
    assert all(job_id.endswith("-1") for job_id in slow.started)


@pytest.mark.any_airflow
def test_an_error_of_another_try_is_not_its_own(task: Task, slow: SlowBigQuery) -> None:
    slow.slow = "-land-.*-1$"
    slow.endings = [("-land-", {"reason": "invalidQuery", "message": "Division by zero: x"})]
    task.deferred()  # and the worker is killed before Airflow knows of it
    manifest, waits = task.finish()
    assert manifest["counts"]["succeeded"] == 3
    assert waits[0][0].endswith("-1")
    assert [each[-2:] for each in slow.started if "-land-" in each] == ["-1", "-2"]
    assert task.keys() == KEYS


@pytest.mark.any_airflow
def test_conflicts_and_transient_errors_are_tried_again_in_the_same_bounds(
    task: Task, slow: SlowBigQuery
) -> None:
    slow.slow = "-land-"
    slow.endings = [("-land-", each) for each in (CONFLICT, TRANSIENT, CONFLICT)]
    manifest, waits = task.finish()
    assert manifest["counts"]["succeeded"] == 3
    landings = [ids[0] for ids in waits if "-land-" in ids[0]]
    assert [job_id.rpartition("-")[2] for job_id in landings] == ["1", "2", "3", "4"]
    assert task.keys() == KEYS


@pytest.mark.any_airflow
def test_transient_errors_are_not_tried_again_forever(task: Task, slow: SlowBigQuery) -> None:
    slow.slow = "-land-"
    slow.endings = [("-land-", TRANSIENT)] * 9
    with pytest.raises(LandingError, match="-6 failed, nothing was landed: backendError"):
        task.finish()
    assert slow.kinds().count("land") == 6


def test_a_restart_between_finds_what_runs(task: Task, slow: SlowBigQuery) -> None:
    """Killed before it was deferred, or cleared while it was: another try begins at the start."""
    slow.slow = "-land-"
    first, second = task.deferred(), task.deferred()
    assert first.trigger.job_ids == second.trigger.job_ids
    assert second.trigger.resume["started"] == []
    slow.finish()
    assert task.resume(second)["counts"]["succeeded"] == 3
    assert slow.kinds().count("land") == 1
    assert task.keys() == KEYS


def test_a_trigger_that_runs_twice_and_a_task_that_resumes_twice(task: Task, slow: SlowBigQuery) -> None:
    slow.slow = "-land-"
    deferred = task.deferred()

    async def both() -> list[dict[str, Any]]:
        waiting = asyncio.gather(fired(deferred.trigger), fired(deferred.trigger))
        await asyncio.sleep(0.5)
        slow.finish()
        return await waiting

    first, second = asyncio.run(both())
    assert first == second
    with ThreadPoolExecutor(2) as pool:
        manifests = list(pool.map(task.resume_with, (first, second)))
    assert manifests[0] == manifests[1]
    assert slow.kinds().count("land") == 1
    assert task.keys() == KEYS


def test_what_others_do_to_the_rows_before_the_task_resumes_is_not_undone(
    task: Task, slow: SlowBigQuery
) -> None:
    """Two tasks that truncate one table would otherwise land again and again."""
    slow.slow = "-land-"
    deferred = task.deferred()
    slow.finish()
    event = asyncio.run(fired(deferred.trigger))
    task.bigquery.query_and_wait(f"DELETE FROM `{task.settings['destination_table']}` WHERE TRUE")
    assert task.resume_with(event)["counts"]["succeeded"] == 3
    assert slow.kinds().count("land") == 1
    assert task.keys() == []


def test_a_table_that_is_dropped_before_the_task_resumes_is_filled_again(
    task: Task, slow: SlowBigQuery
) -> None:
    slow.slow = "-land-.*-1$"
    deferred = task.deferred()
    slow.finish()
    event = asyncio.run(fired(deferred.trigger))
    task.bigquery.query_and_wait(f"DROP TABLE `{task.settings['destination_table']}`")
    task.finish(event)
    assert task.keys() == KEYS


@pytest.mark.parametrize("dropped", [(2,)])
def test_gates_are_checked_after_the_wait(task: Task, slow: SlowBigQuery, ti: TaskInstance) -> None:
    slow.slow = "-land-"
    deferred = task.deferred(min_success_ratio=1)
    assert "return_value" not in ti.xcom
    slow.finish()
    with pytest.raises(AirflowFailException) as caught:
        task.resume(deferred, min_success_ratio=1)
    assert isinstance(caught.value.__cause__, QualityGateError)
    assert ti.xcom["return_value"]["counts"]["succeeded"] == 2


def test_a_deadline_ends_the_wait_and_a_retry_goes_on(task: Task, slow: SlowBigQuery) -> None:
    slow.slow = "-land-"
    deferred = task.deferred(execution_timeout=timedelta(seconds=0.5))
    with pytest.raises(
        LandingError, match=r"not done at the deadline\. It goes on with BigQuery job gemini-"
    ):
        task.resume(deferred)
    manifest, _ = task.finish()
    assert manifest["counts"]["succeeded"] == 3
    assert slow.kinds().count("land") == 1


def test_the_deadline_is_that_of_the_first_deferral(task: Task, slow: SlowBigQuery) -> None:
    first = task.deferred("load", execution_timeout=timedelta(minutes=5))
    slow.finish()
    with pytest.raises(TaskDeferred) as second:
        task.resume(first, execution_timeout=timedelta(minutes=5))
    assert second.value.trigger.deadline == first.trigger.deadline


def test_an_outage_of_bigquery_is_ridden_out(
    task: Task, slow: SlowBigQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow.slow = "-land-"
    deferred = task.deferred()
    said: list[str] = []
    monkeypatch.setattr(
        BigQueryJobsTrigger, "log", SimpleNamespace(log=lambda _level, line: said.append(line))
    )
    url = os.environ["BIGQUERY_EMULATOR_HOST"]
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(polling, "_ERROR_WAIT", 0.05)

    async def outage() -> dict[str, Any]:
        waiting = asyncio.ensure_future(fired(deferred.trigger))
        await until(lambda: said)
        assert not waiting.done()
        os.environ["BIGQUERY_EMULATOR_HOST"] = url
        slow.finish()
        return await waiting

    event = asyncio.run(outage())
    assert event["outcome"] == "ended"
    outage_begins, outage_ends = said
    assert outage_begins.startswith("No response from BigQuery: ")
    assert outage_ends.startswith("BigQuery is reachable again after ")
    assert task.resume_with(event)["counts"]["succeeded"] == 3


def test_a_triggerer_without_the_permission_leaves_the_wait_to_the_worker(
    task: Task, slow: SlowBigQuery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow.slow = "-land-"
    deferred = task.deferred()
    monkeypatch.setattr(polling, "_LASTING_WAIT", 0.05)
    with SlowBigQuery(slow.url) as closed:
        closed.forbidden = "/"
        with monkeypatch.context() as patch:
            patch.setenv("BIGQUERY_EMULATOR_HOST", closed.url)
            event = asyncio.run(fired(deferred.trigger))
    assert event["outcome"] == "error"
    assert "403" in event["message"]
    with ThreadPoolExecutor(1) as pool:
        landed = pool.submit(task.resume_with, event)
        while not landed.done():
            slow.finish()
    assert landed.result()["counts"]["succeeded"] == 3
    assert "so this task waits on its worker: BigQuery returned 403" in caplog.text
    assert slow.kinds().count("land") == 1


def test_triggers_of_one_connection_share_a_client(task: Task, slow: SlowBigQuery) -> None:
    slow.slow = "-land-"
    deferred = task.deferred()
    slow.finish()
    bigquery_jobs._hooks.clear()

    async def many() -> None:
        await asyncio.gather(*(fired(deferred.trigger) for _ in range(20)))

    asyncio.run(many())
    assert len(bigquery_jobs._hooks) == 1


def test_a_lost_trigger_says_what_bigquery_does(task: Task) -> None:
    with pytest.raises(BaseException, match="BigQuery goes on with what it has begun") as caught:
        task.operator().resume_execution("__fail__", {"error": "gone"}, task.context)
    assert "cost" not in str(caught.value)


@pytest.mark.any_airflow
def test_images_are_stored_once(
    task: Task, slow: SlowBigQuery, vertex: Emulator, bucket: str, storage_client: Any, caplog: Any
) -> None:
    add_image(vertex, storage_client, bucket)
    with caplog.at_level(logging.INFO):
        _, waits = task.finish(media_uri_prefix=f"gs://{bucket}/images")
    assert [ids[0].split("-")[2] for ids in waits] == ["load", "schemas", "media", "land"]
    assert len(list(storage_client.list_blobs(bucket, prefix="images/"))) == 1
    assert len([each for each in caplog.records if "Stored media of responses" in each.message]) == 1


def test_rounds_of_a_retry_are_landed_in_the_triggerer(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The second round is landed after a deferral, and a later try pays and lands nothing again."""
    with monkeypatch.context() as patch:
        patch.setattr(landing_wait, "ON_WORKER", 60.0)
        landed = land()
    with SlowBigQuery(os.environ["BIGQUERY_EMULATOR_HOST"], slow="-(land|load)-", seconds=1.0) as slow:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", slow.url)
        with caplog.at_level(logging.INFO, logger="airflow_gemini_batch"):
            result = landed.run(rows((RowFaultKind.EXHAUSTED, (1,))), NOTHING, max_rounds=2)
        assert [each["succeeded"] for each in result["rounds"]] == [2, 1]
        assert landed.statuses() == expected(row_0="failed")
        assert slow.kinds().count("land") == 2
        waited = [each for each in caplog.records if each.message.startswith("BigQuery is working.")]
        assert sum("-land-" in each.message for each in waited) == 2
        assert len(landed.jobs) == 3
        again = landed.run(max_rounds=2)
        assert again["rounds"] == result["rounds"]
        assert len(landed.jobs) == 3


def test_a_decorated_task_waits_for_its_job_and_for_bigquery(
    vertex: Emulator, context: Context, bucket: str, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_gemini_batch.decorators.gemini_batch import GeminiBatchDecoratedOperator

    def task() -> GeminiBatchDecoratedOperator:
        return GeminiBatchDecoratedOperator(
            task_id="ask",
            python_callable=lambda: ["Where?", "When?"],
            model="gemini-3.5-flash",
            location="global",
            staging_uri=f"gs://{bucket}/staging",
            results_table=f"{dataset}.asked",
            poll_interval=0.1,
        )

    with SlowBigQuery(os.environ["BIGQUERY_EMULATOR_HOST"], slow="-land-", seconds=1.0) as slow:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", slow.url)
        event, waits = None, []
        for _ in range(9):
            try:
                result = task().execute_complete(context, event) if event else task().execute(context)
                break
            except TaskDeferred as deferred:
                waits.append(type(deferred.trigger).__name__)
                event = json.loads(json.dumps(asyncio.run(fired(deferred.trigger))))
    assert result["counts"]["succeeded"] == 2
    assert (waits[0], waits[-1]) == ("GeminiBatchJobTrigger", "BigQueryJobsTrigger")
    assert slow.kinds().count("land") == 1
    assert len(vertex.jobs) == 1
