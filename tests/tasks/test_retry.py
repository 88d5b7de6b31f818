"""GeminiBatchRetryFailedOperator on the local stack: every row in its bucket, and no round paid twice."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault, RowFaultKind
from airflow_gemini_batch.exceptions import InvalidParameterError, QualityGateError, RequestsError
from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
from airflow_gemini_batch.jobs.rounds import End, Round, ended, explain
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from tests.tasks.landed import NOTHING, ROWS, Context, Killed, Landed, expected, request, rows
from tests.variants import variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.tasks.conftest import TaskInstance


@pytest.mark.parametrize("regional", [True, variant(False, name="by files")], ids=["by a table", None])
def test_every_row_ends_in_its_bucket(land: Callable[..., Landed], regional: bool) -> None:
    landed = land(regional=regional)
    assert sorted(landed.errors().values()) == [False, True, True, True]

    manifest = landed.run(rows((RowFaultKind.EXHAUSTED, (1,))), NOTHING)

    assert landed.statuses() == expected(row_0="failed")
    assert landed.errors() == {"row-0": False}
    assert [(each["asked"], each["succeeded"]) for each in manifest["rounds"]] == [(3, 2), (1, 1)]
    assert (manifest["succeeded"], manifest["left"], manifest["ended"]) == (3, 0, "nothing_left")
    first, second, third = landed.jobs
    assert [each["job_name"] for each in manifest["rounds"]] == [second["name"], third["name"]]
    assert len(json.dumps(manifest)) < 1500
    assert {job["model"] for job in landed.jobs} == {first["model"]}
    assert second["outputConfig"] == first["outputConfig"]
    kind = "bigquerySource" if regional else "gcsSource"
    assert kind in second["inputConfig"]


@pytest.mark.any_airflow
def test_a_fifth_of_the_rows_fails_in_three_ways_and_the_cost_is_known_to_the_cent(
    land: Callable[..., Landed],
) -> None:
    """A hundred prompts of 1,000 tokens, to be answered with one: seven refused, seven too many, six lost."""
    config = {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["yes"]}}
    texts = [f"{n:04}{'x' * 3996}" for n in range(100)]
    landed = land(
        rows(
            (RowFaultKind.REFUSED, tuple(range(1, 8))),
            (RowFaultKind.EXHAUSTED, tuple(range(8, 15))),
            (RowFaultKind.DROPPED, tuple(range(15, 21))),
        ),
        requests=[
            {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}
            for text in texts
        ],
    )
    assert Counter(landed.statuses().values()) == {"succeeded": 80, "failed": 14, "missing": 6}

    manifest = landed.run(rows((RowFaultKind.EXHAUSTED, (1,))), NOTHING)

    assert [(each["asked"], each["succeeded"]) for each in manifest["rounds"]] == [(13, 12), (1, 1)]
    assert Counter(landed.statuses().values()) == {"succeeded": 93, "failed": 7}
    assert set(landed.errors()) == {f"row-{n}" for n in range(7)}
    # 3.5 Flash in batch: 0.75 USD for a million tokens of prompts, 4.5 of answers. What failed is free.
    by_hand = 93 * (1_000 * Decimal("0.75") + 1 * Decimal("4.5")) / 1_000_000
    ((paid,),) = landed.bigquery.query(f"SELECT SUM(cost_usd) FROM `{landed.table}`").result()
    assert paid == by_hand == Decimal("0.0701685")
    assert Decimal(str(manifest["cost_usd"])) == 13 * by_hand / 93


@pytest.mark.any_airflow
@pytest.mark.variant
def test_rounds_share_the_free_searches(land: Callable[..., Landed]) -> None:
    """Tokens are free here. Every answer makes one to three queries, and the first round has two answers."""
    tools = [{"googleSearch": {"excludeDomains": ["example.invalid"]}}]
    landed = land(requests=[{**request(n), "tools": tools} for n in range(10)])
    prices = {"input": 0, "output": 0, "free_searches": 1}

    manifest = landed.run(rows((RowFaultKind.EXHAUSTED, (1,))), NOTHING, prices=prices)

    assert [each["succeeded"] for each in manifest["rounds"]] == [2, 1]
    queries = [each["search_queries"] for each in manifest["rounds"]]
    assert 2 <= queries[0] <= 6
    assert 1 <= queries[1] <= 3
    by_hand = [Decimal("0.014") * (queries[0] - 1), Decimal("0.014") * queries[1]]
    assert [Decimal(str(each["cost_usd"])) for each in manifest["rounds"]] == by_hand


@pytest.mark.any_airflow
def test_output_in_bigquery_goes_to_a_table_of_its_own(land: Callable[..., Landed]) -> None:
    landed = land(rows((RowFaultKind.EXHAUSTED, (2,))), output_uri="bq://{dataset}.output")
    assert landed.run(NOTHING)["ended"] == "nothing_left"
    assert landed.statuses() == expected()
    first, second = (job["outputConfig"]["bigqueryDestination"]["outputUri"] for job in landed.jobs)
    assert second.startswith(f"{first}_retry_")


@pytest.mark.any_airflow
def test_the_original_request_is_asked_again(land: Callable[..., Landed]) -> None:
    """Not its echo, which has nulls in it."""
    landed = land(rows((RowFaultKind.EXHAUSTED, (3,))))
    landed.run(NOTHING)
    table = landed.jobs[1]["inputConfig"]["bigquerySource"]["inputUri"].removeprefix("bq://")
    ((key, asked),) = landed.bigquery.query(f"SELECT key, TO_JSON_STRING(request) FROM `{table}`").result()
    assert (key, json.loads(asked)) == ("row-2", request(2))
    assert landed.bigquery.get_table(table).expires is not None


@pytest.mark.any_airflow
def test_lines_that_are_no_requests_are_not_submitted(land: Callable[..., Landed]) -> None:
    """An error table that somebody has copied, with its requests as text, is exported as text."""
    landed = land(regional=False)
    landed.bigquery.query(
        f"CREATE OR REPLACE TABLE `{landed.table}_errors` AS "
        f"SELECT * EXCEPT (request), TO_JSON_STRING(request) AS request FROM `{landed.table}_errors`"
    ).result()
    with pytest.raises(RequestsError, match=r"not write requests .* as JSON objects\. Use a results table"):
        landed.run()
    assert len(landed.jobs) == 1


@pytest.mark.parametrize(
    "dies", [variant("before the job ends"), variant("before the rows are landed"), "between two rounds"]
)
def test_a_task_that_is_killed_pays_no_round_twice(
    land: Callable[..., Landed],
    dies: str,
    monkeypatch: pytest.MonkeyPatch,
    ti: TaskInstance,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    landed = land()
    landed.vertex.faults = rows((RowFaultKind.EXHAUSTED, (1,)))
    with pytest.raises(TaskDeferred) as caught:
        landed.make().execute(landed.context)
    landed.vertex.faults = NOTHING
    if dies == "before the rows are landed":
        with monkeypatch.context() as patch:
            patch.setattr("airflow_gemini_batch.results.landing.land", kill)
            with pytest.raises(Killed):
                landed.resumed(caught.value)()
    elif dies == "between two rounds":
        with pytest.raises(TaskDeferred):
            landed.resumed(caught.value)()
    ti.try_number = 2

    manifest = landed.run(NOTHING)

    assert landed.statuses() == expected(row_0="failed")
    assert len(landed.jobs) == 3
    assert [(each["asked"], each["succeeded"]) for each in manifest["rounds"]] == [(3, 2), (1, 1)]
    # Clearing the task when all is done changes nothing, and the log says so.
    capsys.readouterr()
    caplog.clear()
    assert landed.run() == manifest
    assert "Found 2 rounds of earlier tries of this task. Nothing of it is paid again." in (
        capsys.readouterr().out + caplog.text
    )
    assert len(landed.jobs) == 3
    assert landed.statuses() == expected(row_0="failed")


def kill(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.mark.any_airflow
def test_rounds_end_when_nothing_more_succeeds(land: Callable[..., Landed]) -> None:
    landed = land()
    manifest = landed.run(rows((RowFaultKind.EXHAUSTED, (1, 2, 3))), max_rounds=5)
    assert (manifest["ended"], manifest["left"], len(landed.jobs)) == ("no_progress", 3, 2)
    assert landed.statuses() == expected(row_0="failed", row_1="failed", row_2="failed", row_3="failed")


@pytest.mark.any_airflow
def test_a_budget_that_is_too_small_begins_no_round(land: Callable[..., Landed]) -> None:
    landed = land()
    before = landed.statuses()
    manifest = landed.run(NOTHING, max_cost_usd=0.000001)
    assert (manifest["ended"], manifest["left"], manifest["rounds"]) == ("max_cost", 3, [])
    assert len(landed.jobs) == 1
    assert landed.statuses() == before
    assert landed.run(NOTHING, max_cost_usd=1)["ended"] == "nothing_left"


@pytest.mark.parametrize("of", [variant("a job"), "a table"])
def test_gates_are_for_all_rows_after_the_last_round(
    land: Callable[..., Landed], ti: TaskInstance, of: str
) -> None:
    """Six of ten when the retry begins, eight after its round: two more of the three that may succeed."""
    landed = land()
    settings: dict[str, Any] = {"max_rounds": 1} | ({"job_name": None} if of == "a table" else {})
    with pytest.raises(AirflowFailException, match=r"^8 of 10 rows of .* is 0\.81\. ") as caught:
        landed.run(rows((RowFaultKind.EXHAUSTED, (1,))), min_success_ratio="0.81", **settings)
    error = caught.value.__cause__
    assert isinstance(error, QualityGateError)
    assert (error.gate, error.ratio) == ("min_success_ratio", 0.8)
    assert "1 failed request may succeed if resubmitted. max_rounds is reached. To ask for" in str(error)
    assert ti.xcom["return_value"] == error.manifest
    assert error.manifest["counts"] == dict.fromkeys(error.manifest["counts"], 0) | {
        "succeeded": 8,
        "failed": 2,
    }
    assert (error.manifest["ended"], len(landed.jobs)) == ("max_rounds", 2)
    # The limit is moved and the task cleared: nothing is paid, and it passes.
    assert landed.run(min_success_ratio=0.8, max_invalid_ratio=0, **settings) == error.manifest
    assert len(landed.jobs) == 2
    assert len(landed.statuses()) == ROWS


@pytest.mark.any_airflow
def test_a_gate_is_looked_at_though_no_round_was_begun(land: Callable[..., Landed]) -> None:
    landed = land()
    with pytest.raises(AirflowFailException, match=r"^6 of 10 rows of projects/") as caught:
        landed.run(max_cost_usd=0.000001, min_success_ratio=0.9)
    # So an alert says what to change: not only the gate.
    assert "3 failed requests may succeed if resubmitted. Another round was not started" in str(caught.value)
    assert "more than max_cost_usd=0.000001" in str(caught.value)
    assert len(landed.jobs) == 1


@pytest.mark.any_airflow
def test_all_failures_of_a_table(land: Callable[..., Landed]) -> None:
    landed = land()
    manifest = landed.run(NOTHING, job_name=None)
    assert manifest["ended"] == "nothing_left"
    assert landed.statuses() == expected(row_0="failed")


@pytest.mark.any_airflow
def test_a_job_may_have_given_all_its_rows_away(land: Callable[..., Landed]) -> None:
    """Where rows are merged by key, those of other jobs may be better; else it was not landed."""
    landed = land()
    better = f"UPDATE `{landed.table}` SET job_name = 'better', status = 'succeeded' WHERE TRUE"
    landed.bigquery.query(better).result()
    landed.bigquery.query(f"DELETE FROM `{landed.table}_errors` WHERE TRUE").result()
    manifest = landed.run(write_mode="merge")
    assert (manifest["ended"], set(manifest["counts"].values())) == ("nothing_left", {0})
    with pytest.raises(AirflowFailException, match="has no rows of this job"):
        landed.run()
    assert len(landed.jobs) == 1


@pytest.mark.any_airflow
@pytest.mark.variant
def test_all_rounds_of_a_task_share_a_hook(
    land: Callable[..., Landed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hook has clients of its own, and each client connections and a token."""
    made: list[object] = []
    begin = GeminiBatchHook.__init__

    def counting(hook: GeminiBatchHook, *args: Any, **kwargs: Any) -> None:
        made.append(hook)
        begin(hook, *args, **kwargs)

    landed = land()
    monkeypatch.setattr(GeminiBatchHook, "__init__", counting)
    manifest = landed.run(rows((RowFaultKind.EXHAUSTED, (1,))), NOTHING, deferrable=False)
    assert len(manifest["rounds"]) == 2
    assert len(made) == 1


@pytest.mark.any_airflow
def test_rows_that_a_job_did_before_it_failed_count(land: Callable[..., Landed]) -> None:
    landed = land()
    fault = FaultPlan(jobs=[JobFault(ends=JobState.EXPIRED, after_rows=1)])
    manifest = landed.run(fault, NOTHING)
    assert [(each["asked"], each["succeeded"]) for each in manifest["rounds"]] == [(3, 1), (2, 2)]
    assert landed.statuses() == expected(row_0="failed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_rounds": 0}, "max_rounds=0: give"),
        ({"max_cost_usd": 0}, "max_cost_usd=0: give"),
        ({"write_mode": "truncate"}, "write_mode='truncate': it would delete"),
        ({"job_name": "x"}, "job_name='x': give the full"),
        ({"min_success_ratio": 90}, "min_success_ratio=90: give a number"),
        ({"job_name": None}, "results_table=.*: it does not exist: land"),
    ],
)
def test_what_cannot_work_is_refused(
    vertex: Emulator, dataset: str, context: Context, changes: dict[str, Any], message: str
) -> None:
    name = "projects/local-project/locations/global/batchPredictionJobs/1"
    settings = {"results_table": f"{dataset}.answers", "job_name": name, **changes}
    with pytest.raises(AirflowFailException, match=message) as caught:
        GeminiBatchRetryFailedOperator(task_id="retry", **settings).execute(context)
    assert isinstance(caught.value.__cause__, InvalidParameterError)
    assert vertex.jobs == ()


def a_round(succeeded: int) -> Round:
    return Round("job", 5, succeeded, 0.1)


@pytest.mark.parametrize(
    ("rounds", "left", "end"),
    [
        ([], 0, End.NOTHING_LEFT),
        ([], 5, None),
        ([a_round(0)], 5, End.NO_PROGRESS),
        ([a_round(0)], 0, End.NOTHING_LEFT),
        ([a_round(3)], 2, None),
        ([a_round(3), a_round(1)], 1, End.MAX_ROUNDS),
    ],
)
def test_when_rounds_end(rounds: list[Round], left: int, end: End | None) -> None:
    assert ended(rounds, left, 2) == end


@pytest.mark.parametrize(
    ("rounds", "left", "end", "failed", "lines"),
    [
        ([], 0, End.NOTHING_LEFT, 0, ["Nothing to retry: all rows succeeded."]),
        (
            [],
            0,
            End.NOTHING_LEFT,
            2,
            ["Nothing to retry: 2 of 10 rows did not succeed, and resubmitting them would not help."],
        ),
        (
            [a_round(1)],
            0,
            End.NOTHING_LEFT,
            0,
            [
                "1 round: 1 failed request succeeded when resubmitted.",
                "Nothing is left to retry: all rows succeeded.",
            ],
        ),
        (
            [],
            3,
            End.OTHER_RUN,
            3,
            [
                "3 failed requests may succeed if resubmitted.",
                "Other task runs are resubmitting the requests that are left.",
            ],
        ),
    ],
)
def test_the_log_says_what_is_left(
    rounds: list[Round], left: int, end: End, failed: int, lines: list[str]
) -> None:
    assert explain(end, rounds, left, failed, 10) == lines


def test_there_may_be_no_rows_at_all() -> None:
    assert explain(End.NOTHING_LEFT, [], 0, 0, 0) == ["Nothing to retry: there are no rows."]
