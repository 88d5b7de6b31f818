"""What a StatsD server receives from tasks and triggers that really run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_gemini_batch.emulator.faults.plan import (
    CallFault,
    CallFaultKind,
    FaultPlan,
    Route,
    RowFault,
    RowFaultKind,
)
from airflow_gemini_batch.metrics.described import METRICS, Kind
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from tests.metrics.statsd import Received, receiving
from tests.tasks.landed import fired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.metrics.statsd import Server
    from tests.task_instance import TaskInstance

Context = Any


@pytest.fixture
def statsd() -> Iterator[Server]:
    with receiving() as server:
        yield server


def as_described(received: list[Received]) -> None:
    """Check names, kinds and tags against the descriptions."""
    forms = {
        name: each
        for each in METRICS
        for name in ([f"{each.name}.{value}" for value in each.values] or [each.name])
    }
    for line in received:
        metric = forms[line.name]
        assert line.kind == {Kind.COUNTER: "c", Kind.TIMER: "ms"}[metric.kind]
        assert set(line.tags) == set(metric.tags)
        assert all(line.tags.values())


def test_a_submission_and_an_attachment(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, statsd: Server
) -> None:
    name = GeminiBatchSubmitOperator(**submit_args).execute(context)
    (submitted,) = statsd.read()
    assert (submitted.name, submitted.value) == ("gemini_batch.jobs.submitted", 1)
    assert submitted.tags["model"] == "gemini-3.5-flash"
    assert submitted.tags["location"] == "global"
    assert submitted.tags["task_id"] == "submit"
    assert GeminiBatchSubmitOperator(**submit_args).execute(context) == name
    assert statsd.values() == {"gemini_batch.jobs.submitted": 1, "gemini_batch.jobs.attached": 1}
    as_described(statsd.read())


def test_a_job_that_ends(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, statsd: Server
) -> None:
    name = GeminiBatchSubmitOperator(**submit_args).execute(context)
    sensor = GeminiBatchJobSensor(task_id="wait", job_name=name, poll_interval=0.1)
    try:
        summary = sensor.execute(context)
    except TaskDeferred as deferred:
        assert set(statsd.values()) == {"gemini_batch.jobs.submitted"}
        event = asyncio.run(fired(deferred.trigger))
        resumed = GeminiBatchJobSensor(task_id="wait", job_name=name, poll_interval=0.1)
        summary = resumed.execute_complete(context, event)
    found = statsd.values()
    assert found["gemini_batch.jobs.ended.succeeded"] == 1
    assert found["gemini_batch.jobs.queued_duration"] == milliseconds(summary, "create_time", "start_time")
    assert found["gemini_batch.jobs.run_duration"] == milliseconds(summary, "start_time", "end_time")
    as_described(statsd.read())


def milliseconds(summary: dict[str, Any], since: str, until: str) -> Any:
    took = datetime.fromisoformat(summary[until]) - datetime.fromisoformat(summary[since])
    return pytest.approx(took.total_seconds() * 1000)


def test_a_landing_is_counted_once(
    vertex: Emulator,
    submit_args: dict[str, Any],
    context: Context,
    dataset: str,
    ti: TaskInstance,
    statsd: Server,
) -> None:
    """A task that is cleared finds its rows landed. To count their cost again would raise an alarm."""
    vertex.faults = FaultPlan(rows=[RowFault(kind=RowFaultKind.DROPPED, nth=(2,))])
    submit = GeminiBatchSubmitOperator(
        **submit_args, wait_for_completion=True, deferrable=False, poll_interval=0.1
    )
    name = submit.execute(context)
    statsd.read()
    statsd.lines.clear()

    def land() -> dict[str, Any]:
        operator = GeminiBatchResultsToBigQueryOperator(
            task_id="land", job_name=name, destination_table=f"{dataset}.answers"
        )
        return operator.execute(context)  # type: ignore[no-any-return]

    ti.start_date = datetime.now(UTC)  # type: ignore[attr-defined]
    manifest = land()
    expected = {f"gemini_batch.rows.{status}": n for status, n in manifest["counts"].items() if n}
    tokens = {kind: n for kind, n in manifest["tokens"].items() if n and kind != "media"}
    expected |= {f"gemini_batch.tokens.{kind}": n for kind, n in tokens.items()}
    expected["gemini_batch.cost_micro_usd"] = int(manifest["cost_usd"] * 1_000_000)
    assert statsd.values() == expected
    assert (expected["gemini_batch.rows.missing"], expected["gemini_batch.rows.succeeded"]) == (1, 2)
    as_described(statsd.read())
    ti.start_date += timedelta(minutes=5)  # type: ignore[attr-defined]
    assert land()["landed_at"] == manifest["landed_at"]
    assert statsd.values() == expected


def test_polls_that_fail_in_a_trigger(
    vertex: Emulator, submit_args: dict[str, Any], context: Context
) -> None:
    """The triggerer has a set-up of its own since Airflow 3.2."""
    with pytest.raises(TaskDeferred) as deferred:
        GeminiBatchSubmitOperator(**submit_args, wait_for_completion=True, poll_interval=0.1).execute(context)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.GET, kind=CallFaultKind.STATUS, nth=(1, 2), status=503)]
    )
    with receiving(of_triggerer=True) as server:
        event = asyncio.run(fired(deferred.value.trigger))
        assert event["outcome"] == "ended"
        (first, *_) = errors = server.read()
        assert {each.name for each in errors} == {"gemini_batch.poll_errors"}
        assert first.tags == {"location": "global", "error": first.tags["error"]}
        as_described(errors)


def test_polls_that_fail_on_a_worker(
    vertex: Emulator, submit_args: dict[str, Any], context: Context, statsd: Server
) -> None:
    name = GeminiBatchSubmitOperator(**submit_args).execute(context)
    vertex.faults = FaultPlan(
        calls=[CallFault(route=Route.GET, kind=CallFaultKind.STATUS, nth=(1,), status=503)]
    )
    sensor = GeminiBatchJobSensor(task_id="wait", job_name=name, deferrable=False, poll_interval=0.1)
    sensor.execute(context)
    assert statsd.values()["gemini_batch.poll_errors"] == 1


def test_names_are_enough_without_tags(
    vertex: Emulator, submit_args: dict[str, Any], context: Context
) -> None:
    """As of a StatsD server that knows no tags."""
    with receiving(tags=False) as server:
        GeminiBatchSubmitOperator(**submit_args).execute(context)
        assert [(each.name, each.tags) for each in server.read()] == [("gemini_batch.jobs.submitted", {})]
