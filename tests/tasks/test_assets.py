"""The results table as an asset (in Airflow 2, a dataset): outlets, and the events of Airflow itself."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias

from airflow_gemini_batch.decorators.gemini_batch import GeminiBatchDecoratedOperator
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchResultsToBigQueryOperator
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator
from airflow_gemini_batch.task_groups import gemini_batch
from airflow_gemini_batch.tasks.airflow_versions import knows_alias
from airflow_gemini_batch.tasks.assets import as_asset, input_asset_uri, record_landing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tasks.landed import Landed

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:  # Airflow 2
    from airflow.utils.context import OutletEventAccessors  # type: ignore[attr-defined, no-redef]

IS_AIRFLOW_2 = OutletEventAccessors.__module__ == "airflow.utils.context"
JOB = "projects/p/locations/global/batchPredictionJobs/1"
URI = "bigquery://p/d/answers"
MANIFEST = {
    "job_name": JOB,
    "destination_table": "p.d.answers",
    "error_table": "p.d.answers_errors",
    "counts": {"succeeded": 2, "failed": 1},
    "cost_usd": 0.5,
}
EXTRA = {
    "table": "p.d.answers",
    "jobs": 1,
    "job_name": JOB,
    "rows": 3,
    "rows_succeeded": 2,
    "rows_failed": 1,
    "cost_usd": 0.5,
}


def landing(**more: Any) -> Any:
    values = {"task_id": "land", "job_name": JOB, "destination_table": "p.d.answers", **more}
    with DAG("dag", schedule=None):
        return GeminiBatchResultsToBigQueryOperator(**values)


@pytest.fixture
def alias(request: pytest.FixtureRequest, airflow_db: object) -> Callable[[str], AssetAlias]:
    """Makes an alias that is in Airflow's database, as the DAG processor does."""

    def make(name: str) -> AssetAlias:
        if not knows_alias(name):
            from airflow.models.dataset import DatasetAliasModel
            from airflow.utils.session import create_session

            with create_session() as session:
                session.add(DatasetAliasModel(name=name))
        return AssetAlias(name)

    return make


def uris(outlets: list[Any]) -> list[str]:
    return [each.uri for each in outlets]


def recorded(operator: Any, manifest: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """The operator's copy that ran, and its events."""
    ran, events = copy.copy(operator), OutletEventAccessors()
    record_landing(ran, {"outlet_events": events}, manifest or MANIFEST, ["gs://b/in.jsonl", "bq://p.d.in"])  # type: ignore[arg-type, typeddict-item]
    return ran, events


@pytest.mark.parametrize(
    ("table", "more"),
    [("p.d.answers", {}), ("d.answers", {"project_id": "p"}), ("bq://p.d.answers", {})],
)
def test_a_table_that_is_known_is_an_outlet(table: str, more: dict[str, Any]) -> None:
    assert uris(landing(destination_table=table, **more).outlets) == [URI]


def test_every_task_that_lands_has_the_outlet() -> None:
    with DAG("dag", schedule=None):
        retry = GeminiBatchRetryFailedOperator(task_id="retry", results_table="p.d.answers")
        decorated = GeminiBatchDecoratedOperator(
            task_id="ask",
            python_callable=list,
            model="m",
            op_args=(),
            op_kwargs={},
            results_table="p.d.answers",
        )
        without = GeminiBatchDecoratedOperator(
            task_id="only", python_callable=list, model="m", op_args=(), op_kwargs={}
        )
    assert uris(retry.outlets) == uris(decorated.outlets) == [URI]
    assert without.outlets == []


def test_the_tasks_of_a_group_have_it() -> None:
    with DAG("dag", schedule=None) as dag:
        gemini_batch(
            list,
            model="m",
            staging_uri="gs://bucket/s",
            location="global",
            results_table="p.d.answers",
            max_retry_rounds=1,
        )
        gemini_batch(
            list,
            group_id="off",
            model="m",
            staging_uri="gs://bucket/s",
            results_table="p.d.answers",
            emit_asset=False,
        )
    found = {task.task_id: uris(task.outlets) for task in dag.tasks if task.outlets}
    assert found == {"gemini_batch.job.land": [URI], "gemini_batch.job.retry": [URI]}


@pytest.mark.parametrize("table", ["{{ params.dataset }}.answers", "d.answers"])
def test_a_table_that_is_not_known_yet_comes_through_an_alias(table: str, alias: Any) -> None:
    operator = landing(destination_table=table)
    assert operator.outlets == [alias("dag.land")]
    ran, events = recorded(operator)
    (event,) = events_of(events[AssetAlias("dag.land")])
    assert event == (URI, EXTRA)
    assert ran.outlets == operator.outlets


@pytest.mark.skipif(not IS_AIRFLOW_2, reason="Airflow 3 takes any alias")
def test_an_alias_that_airflow_2_has_not_stored_gets_no_event(
    airflow_db: object, caplog: pytest.LogCaptureFixture
) -> None:
    operator = landing(task_id="new", destination_table="d.answers")
    _, events = recorded(operator)
    assert not events_of(events[AssetAlias("dag.new")])
    assert "does not know the dataset alias 'dag.new'" in caplog.text


def test_an_alias_of_the_user_takes_the_place_of_ours(alias: Any) -> None:
    mine = alias("answers")
    operator = landing(destination_table="{{ params.dataset }}.answers", outlets=[mine])
    assert operator.outlets == [mine]
    _, events = recorded(operator)
    assert events_of(events[mine]) == [(URI, EXTRA)]


def test_outlets_of_the_user_stay() -> None:
    other, same = Asset("s3://b/other"), as_asset(URI)
    assert uris(landing(outlets=[other]).outlets) == ["s3://b/other", URI]
    operator = landing(outlets=[same, other])
    assert operator.outlets == [same, other]
    _, events = recorded(operator)
    assert events[same].extra == EXTRA
    assert events[other].extra == {}


def test_the_event_of_a_landing_has_facts_and_its_task_inlets() -> None:
    operator = landing()
    ran, events = recorded(operator)
    assert events[as_asset(URI)].extra == EXTRA
    assert uris(ran.inlets) == ["gs://b/in.jsonl", "bigquery://p/d/in"]
    assert operator.inlets == []


@pytest.mark.parametrize("change", [{"counts": {"succeeded": 0}}, {"job_name": "", "rounds": []}])
@pytest.mark.parametrize("table", ["p.d.answers", "d.answers"])
def test_nothing_that_was_written_makes_no_event(change: dict[str, Any], table: str) -> None:
    other = Asset("s3://b/other")
    operator = landing(destination_table=table, outlets=[other])
    ran, events = recorded(operator, {**MANIFEST, **change})
    assert ran.outlets == [other]
    assert len(operator.outlets) == 2
    assert len(events) == 0


def test_it_can_be_switched_off() -> None:
    operator = landing(emit_asset=False)
    assert operator.outlets == []
    ran, events = recorded(operator)
    assert (ran.outlets, ran.inlets, len(events)) == ([], [], 0)
    with pytest.raises(InvalidParameterError, match="emit_asset"):
        landing(emit_asset="no")


def test_an_asset_is_the_one_that_users_make() -> None:
    mine: Any = Asset(URI)
    made = as_asset(URI)
    assert made == mine
    assert hash(made) == hash(mine)
    assert repr(made) == repr(mine)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("gs://b/in.jsonl", "gs://b/in.jsonl"),
        ("gs://b/*.jsonl", None),
        ("bq://p.d.t", URI.replace("answers", "t")),
        ("bq://p.d.tä", None),
        ("gs://b/" + "x" * 1500, None),
    ],
)
def test_the_asset_of_an_input(uri: str, expected: str | None) -> None:
    assert input_asset_uri(uri) == expected


def test_a_landing_of_a_real_job_tells_its_facts(
    land: Callable[..., Landed], context: dict[str, Any]
) -> None:
    events: Any = OutletEventAccessors()
    context["outlet_events"] = events
    landed = land()
    uri = "bigquery://" + landed.table.replace(".", "/")
    extra = events[as_asset(uri)].extra
    assert (extra["rows"], extra["jobs"], extra["job_name"]) == (10, 1, landed.job_name)


def events_of(accessor: Any) -> list[tuple[str, dict[str, Any]]]:
    """The URI and the extra of each event of an alias."""
    if hasattr(accessor, "asset_alias_events"):
        return [(each.dest_asset_key.uri, each.extra) for each in accessor.asset_alias_events]
    return [(each["dest_dataset_uri"], each["extra"]) for each in accessor.dataset_alias_events]
