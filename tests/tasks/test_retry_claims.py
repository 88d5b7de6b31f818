"""Several task runs retry the same failures: each request is paid once, and every round is found again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobName, JobState
from airflow_gemini_batch.exceptions import QualityGateError, RequestsError
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs.rounds import is_abandoned
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchResultsToBigQueryOperator
from airflow_gemini_batch.tasks import retry_rounds
from tests.task_instance import TaskInstance, execute
from tests.tasks.landed import NOTHING, Killed, Landed, expected
from tests.variants import variant

if TYPE_CHECKING:
    from collections.abc import Callable

# Claims are kept in BigQuery; test_retry.py runs rounds on each Airflow.
pytestmark = pytest.mark.any_airflow
ELSEWHERE = "projects/local-project/locations/europe-west4/batchPredictionJobs/77"


def of_run(landed: Landed, run_id: str) -> Landed:
    """The same task in another run of its DAG."""
    context = {"ti": TaskInstance(task_id="retry", run_id=run_id)}
    return Landed(landed.vertex, landed.bigquery, context, landed.table, landed.job_name, landed.settings)


def asked(landed: Landed) -> int:
    """How many requests were paid for, besides those of the first job."""
    stats = [job["completionStats"] for job in landed.jobs[1:]]
    return sum(int(each.get("successfulCount", 0)) + int(each.get("failedCount", 0)) for each in stats)


@pytest.mark.parametrize(
    ("named", "write_mode"),
    [(True, "append"), *(variant(*each) for each in [(False, "merge"), (True, "merge"), (False, "append")])],
)
def test_two_task_runs_at_once_pay_once(land: Callable[..., Landed], named: bool, write_mode: str) -> None:
    landed = land()
    changes = {"write_mode": write_mode} if named else {"write_mode": write_mode, "job_name": None}
    landed.vertex.faults = NOTHING
    runs = [of_run(landed, f"scheduled__{number}") for number in (1, 2)]
    together = threading.Barrier(2)

    def start(run: Landed) -> Any:
        together.wait()
        try:
            return execute(run.make(**changes), run.context)
        except TaskDeferred as deferred:
            return deferred

    with ThreadPoolExecutor(2) as pool:
        begun = list(pool.map(start, runs))
    waiting = [each for each in begun if isinstance(each, TaskDeferred)]
    (other,) = [each for each in begun if not isinstance(each, TaskDeferred)]
    assert (other["ended"], other["rounds"], other["left"], other["in_other_runs"]) == ("other_run", [], 3, 3)
    assert (other["counts"]["succeeded"], len(waiting), len(landed.jobs)) == (6, 1, 2)

    first = runs[begun.index(waiting[0])]
    manifest = first.finish(first.resumed(waiting[0], **changes), iter([NOTHING]), **changes)

    assert (manifest["succeeded"], manifest["left"], manifest["in_other_runs"]) == (3, 0, 0)
    assert landed.statuses() == expected(row_0="failed")
    assert asked(landed) == 3
    # When all is landed, the other run sees it and has nothing to do.
    again = of_run(landed, "scheduled__3").run(**changes)
    assert (again["ended"], again["rounds"], again["counts"]) == ("nothing_left", [], manifest["counts"])
    assert len(landed.jobs) == 2


def test_a_failure_that_comes_back_is_not_paid_again(land: Callable[..., Landed]) -> None:
    """Somebody deletes the answers of the retry and lands the first job again."""
    landed = land()
    landed.run(NOTHING, job_name=None)
    landed.bigquery.query_and_wait(f"DELETE FROM `{landed.table}` WHERE job_name != '{landed.job_name}'")
    GeminiBatchResultsToBigQueryOperator(
        task_id="land", job_name=landed.job_name, destination_table=landed.table
    ).execute({"ti": TaskInstance(task_id="land")})
    assert len(landed.errors()) == 4
    manifest = of_run(landed, "another").run(job_name=None)
    assert (manifest["ended"], manifest["in_other_runs"], len(landed.jobs)) == ("other_run", 3, 2)


def claim_and_die(landed: Landed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies when it is about to create a job."""

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(GeminiBatchHook, "create_job", die)
        with pytest.raises(Killed):
            landed.make().execute(landed.context)


def make_older(landed: Landed) -> None:
    """Two hours pass since the last claim was made or renewed."""
    landed.bigquery.query(
        f"UPDATE `{landed.table}_retry_claims` "
        "SET claimed_at = TIMESTAMP_SUB(claimed_at, INTERVAL 2 HOUR) WHERE TRUE"
    ).result()


def test_a_claim_survives_its_process_and_is_taken_over_when_it_is_old(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    landed = land()
    first, second = of_run(landed, "first"), of_run(landed, "second")
    claim_and_die(first, monkeypatch)
    with pytest.raises(QualityGateError, match=r"^6 of 10 rows"):  # Not final: a later try may pass.
        second.run(min_success_ratio=0.9)
    assert second.run()["ended"] == "other_run"
    assert len(landed.jobs) == 1
    make_older(landed)
    assert second.run(NOTHING)["succeeded"] == 3
    first.context["ti"].try_number = 2
    assert first.run()["ended"] == "nothing_left"
    assert asked(landed) == 3


def test_a_claim_whose_job_runs_is_not_taken_over(land: Callable[..., Landed]) -> None:
    landed = land()
    first, second = of_run(landed, "first"), of_run(landed, "second")
    landed.vertex.faults = NOTHING
    with pytest.raises(TaskDeferred):
        first.make().execute(first.context)
    make_older(landed)
    assert second.run()["ended"] == "other_run"
    first.context["ti"].try_number = 2
    assert first.run()["succeeded"] == 3
    assert len(landed.jobs) == 2


def test_a_claim_that_was_taken_over_creates_no_job(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was paused for hours between its claim and its job goes on."""
    landed = land()
    first, second = of_run(landed, "first"), of_run(landed, "second")
    check = retry_rounds.check_job

    def paused(*arguments: Any) -> Any:
        monkeypatch.setattr(retry_rounds, "check_job", check)
        make_older(landed)
        assert second.run(NOTHING)["succeeded"] == 3
        return check(*arguments)

    monkeypatch.setattr(retry_rounds, "check_job", paused)
    with pytest.raises(RequestsError, match="taken over the requests"):
        first.run(NOTHING)
    assert asked(landed) == 3


def fail_elsewhere(landed: Landed) -> None:
    """A failure lands that a job of another region had, and the job is deleted."""
    query = (
        f"INSERT INTO `{landed.table}_errors` (key, status, job_name, landed_at, retryable, request) "
        f"SELECT 'there', 'failed', '{ELSEWHERE}', CURRENT_TIMESTAMP(), TRUE, JSON '{{}}'"
    )
    landed.bigquery.query(query).result()


def test_a_round_is_found_whatever_has_landed_since(land: Callable[..., Landed]) -> None:
    landed = land()
    landed.vertex.faults = NOTHING
    with pytest.raises(TaskDeferred):
        landed.make(job_name=None).execute(landed.context)
    fail_elsewhere(landed)
    landed.context["ti"].try_number = 2
    manifest = landed.run(NOTHING, job_name=None)
    assert (manifest["succeeded"], manifest["left"], manifest["ended"]) == (3, 1, "source_unknown")
    assert len(landed.jobs) == 2


def test_failures_of_a_deleted_job_are_resubmitted_with_the_model_of_its_responses(
    land: Callable[..., Landed], bucket: str
) -> None:
    landed = land()
    name = JobName.parse(landed.job_name)
    deleted = str(JobName(name.project, name.location, "77"))
    for suffix in ("", "_errors"):
        update = f"UPDATE `{landed.table}{suffix}` SET job_name = '{deleted}' WHERE TRUE"
        landed.bigquery.query(update).result()
    with pytest.raises(AirflowFailException, match=r"output_uri=None: batch job .*/77 was deleted"):
        landed.run(job_name=deleted)
    manifest = landed.run(NOTHING, job_name=deleted, output_uri=f"gs://{bucket}/again")
    assert (manifest["succeeded"], manifest["ended"]) == (3, "nothing_left")
    assert landed.jobs[1]["model"] == landed.jobs[0]["model"]


def test_failures_without_a_known_model_need_one(land: Callable[..., Landed]) -> None:
    landed = land()
    landed.bigquery.query(f"DELETE FROM `{landed.table}_errors` WHERE TRUE").result()
    fail_elsewhere(landed)
    with pytest.raises(AirflowFailException, match=r"model=None: batch job .*/77 was deleted"):
        landed.run(job_name=None)
    assert len(landed.jobs) == 1


def a_job(state: JobState, successful: int | None = 0, output: str | None = None) -> BatchJob:
    stats = CompletionStats(successful, 0, 0)
    return BatchJob(JobName.parse(ELSEWHERE), state, stats=stats, output_location=output)


@pytest.mark.parametrize(
    ("jobs", "abandoned"),
    [
        ([], True),
        ([a_job(JobState.RUNNING)], False),
        ([a_job(JobState.CANCELLING)], False),
        ([a_job(JobState.SUCCEEDED, 3)], False),
        ([a_job(JobState.FAILED)], True),
        ([a_job(JobState.EXPIRED, 2, "gs://b/out")], False),
        ([a_job(JobState.CANCELLED, None, "gs://b/out")], False),
        ([a_job(JobState.FAILED), a_job(JobState.RUNNING)], False),
    ],
)
def test_when_a_claim_is_abandoned(jobs: list[BatchJob], abandoned: bool) -> None:
    assert is_abandoned(jobs) is abandoned
