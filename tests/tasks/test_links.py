"""The links of a task lead to the console, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.provider_info import get_provider_info
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor
from airflow_gemini_batch.service import CONSOLE
from airflow_gemini_batch.tasks import links
from airflow_gemini_batch.tasks.links import JOB_LINKS, LANDING_LINKS

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.server import Emulator
    from tests.task_instance import TaskInstance


def test_a_landing_links_all_that_it_made(
    vertex: Emulator, submit_args: dict[str, Any], ti: TaskInstance, bucket: str, dataset: str
) -> None:
    context = {"ti": ti}
    waits = {"wait_for_completion": True, "deferrable": False, "poll_interval": 0.05}
    name = GeminiBatchSubmitOperator(**submit_args, **waits).execute(context)
    assert f"/storage/browser/{bucket}/out/?project=" in ti.xcom["gemini_batch_output"]
    GeminiBatchJobSensor(task_id="wait", job_name=name).execute(context)
    assert f"/storage/browser/{bucket}/out/prediction-model-" in ti.xcom["gemini_batch_output"]
    ti.xcom.clear()
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=name,
        destination_table=f"{dataset}.answers",
        report_uri=f"gs://{bucket}/reports/",
    )
    land.execute(context)
    project, name_of_dataset = dataset.split(".")
    table = f"{CONSOLE}bigquery?project={project}&p={project}&d={name_of_dataset}&t="
    found = {link.name: ti.xcom[link.xcom_key] for link in LANDING_LINKS}
    assert found["Results table"] == f"{table}answers&page=table"
    assert found["Error table"] == f"{table}answers_errors&page=table"
    job_id = name.rpartition("/")[2]
    assert (
        found["Report"]
        == f"{CONSOLE}storage/browser/_details/{bucket}/reports/{job_id}.html?project={project}"
    )
    assert f"/batch-predictions/{job_id}" in found["Batch job"]
    assert f"{bucket}/out/prediction-model-" in found["Output"]


@pytest.mark.parametrize("link", LANDING_LINKS, ids=lambda link: link.name)
def test_only_the_console_is_linked(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: Any = None
    monkeypatch.setattr(XCom, "get_value", lambda **_: stored)
    operator: Any = None
    key: Any = None
    for stored in (None, "javascript:alert(1)", "https://evil.example/" + CONSOLE, ["x"], {}):  # noqa: B007
        assert link.get_link(operator, ti_key=key) == ""
    stored = f"{CONSOLE}bigquery"
    assert link.get_link(operator, ti_key=key) == stored


def test_every_link_is_known_to_airflow() -> None:
    paths = [f"{links.__name__}.{type(link).__name__}" for link in LANDING_LINKS]
    assert get_provider_info()["extra-links"] == paths
    assert LANDING_LINKS[: len(JOB_LINKS)] == JOB_LINKS
    assert len({link.xcom_key for link in LANDING_LINKS}) == len(LANDING_LINKS)
