"""The page as Airflow 3 serves it, with Airflow's own permissions."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.jobs.identity import DAG_LABEL, INSTALLATION_LABEL, TASK_LABEL, label_value
from tests.cli.test_jobs import create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack

# Airflow 2.11 has no such page.
pytestmark = [pytest.mark.any_airflow, pytest.mark.filterwarnings("default")]

DAGS = """
from airflow.providers.common.compat.sdk import DAG, task
from airflow_gemini_batch.tasks.links import COST_KEY
for name in ("ann.Sales", "ben"):
    with DAG(name, schedule=None):
        @task
        def land(dag_run=None, ti=None):
            ti.xcom_push(key=COST_KEY + "1", value={dag_run.conf["job"]: 1.25})
        land()
"""
COOKIE = "_token"


@pytest.fixture(scope="module")
def airflow(airflow_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Airflow's app with the plugin that provider_info names, and two DAGs."""
    from airflow import plugins_manager, settings
    from airflow.api_fastapi import app as of_airflow

    from airflow_gemini_batch.testing.separate_airflow import load_dags

    folder = tmp_path_factory.mktemp("dags")
    (folder / "dags.py").write_text(DAGS)
    with pytest.MonkeyPatch.context() as patch:
        bundle = {"name": "dags", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
        bundles = [{**bundle, "kwargs": {"path": str(folder)}}]
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
        dags = load_dags(folder)
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.job_page.auth.OwnDagsOnly")
        patch.setattr(settings, "LAZY_LOAD_PROVIDERS", False)
        plugins_manager._get_plugins.cache_clear()
        plugins_manager.get_fastapi_plugins.cache_clear()
        of_airflow.purge_cached_app()
        made = of_airflow.create_app(apps="core")
        made.state.dags_of_test = dags
        yield made
        of_airflow.purge_cached_app()
        plugins_manager._get_plugins.cache_clear()
        plugins_manager.get_fastapi_plugins.cache_clear()


@pytest.fixture
def client(airflow: Any, vertex: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a client of a user; the page has a new cache."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    from airflow_gemini_batch.job_page.plugin import GeminiBatchPlugin

    monkeypatch.setattr(GeminiBatchPlugin.fastapi_apps[0]["app"], "_app", None)

    def log_in(name: str | None = None) -> TestClient:
        made = TestClient(airflow, follow_redirects=False)
        if name:
            token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role="viewer"))
            made.cookies.set(COOKIE, token)
        return made

    return log_in


def listed(client: Any) -> dict[str, Any]:
    """Ask until the first list is there, as the page does."""
    while True:
        answer = client.get("/gemini_batch/jobs")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        if found["at"]:
            return found
        for thread in threading.enumerate():
            if thread.name == "gemini-batch-page":
                thread.join(30)


def lists(vertex: Emulator) -> int:
    return len([each for each in vertex.requests if each.method == "GET"])


@pytest.mark.parametrize("path", ["", "page.js", "page.css", "jobs"])
def test_who_is_not_logged_in_sees_nothing(client: Callable[..., Any], path: str) -> None:
    answer = client().get(f"/gemini_batch/{path}")
    assert answer.status_code == 401
    forged = client()
    forged.cookies.set(COOKIE, "e30.e30.e30")
    assert forged.get(f"/gemini_batch/{path}").status_code in (401, 403)


def test_users_see_the_jobs_of_their_dags(
    client: Callable[..., Any], stack: RunningStack, vertex: Emulator
) -> None:
    mine = create(stack, "ann.Sales", task="group.submit")
    create(stack, "ben")
    create(stack, "ann.Deleted")
    create(stack, "ann.Sales", of="development")
    (row,) = listed(client("ann"))["jobs"]
    assert (row["job_name"], row["dag_id"], row["task_id"]) == (mine, "ann.Sales", "group.submit")
    assert [each["dag_id"] for each in listed(client("ben"))["jobs"]] == ["ben"]
    assert listed(client("carl"))["jobs"] == []


def test_fifty_pages_cost_no_more_than_one(
    client: Callable[..., Any], stack: RunningStack, vertex: Emulator
) -> None:
    create(stack, "ann.Sales")
    pages = [client("ann") for _ in range(50)]
    before = lists(vertex)
    assert [len(listed(page)["jobs"]) for page in pages] == [1] * 50
    assert lists(vertex) - before == 1


def test_what_a_job_has_cost_is_shown(airflow: Any, client: Callable[..., Any], stack: RunningStack) -> None:
    name = create(stack, "ann.Sales")
    run = airflow.state.dags_of_test["ann.Sales"].test(logical_date=None, run_conf={"job": name})
    assert run.state == "success"
    (row,) = listed(client("ann"))["jobs"]
    assert row["cost"] == "$1.25"


def test_a_place_that_fails_does_not_hide_the_others(
    client: Callable[..., Any], stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(stack, "ann.Sales")
    sources = f"{stack.project}/global,no_such_connection@{stack.project}/eu"
    monkeypatch.setenv("AIRFLOW__GEMINI_BATCH__PAGE_SOURCES", sources)
    found = listed(client("ann"))
    assert len(found["jobs"]) == 1
    (problem,) = found["problems"]
    assert problem.startswith(f"{stack.project}/eu: The credentials or the settings are not right.")


def test_a_wrong_setting_is_said(client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__GEMINI_BATCH__PAGE_SOURCES", "nowhere")
    assert listed(client("ann"))["problems"] == [
        "The credentials or the settings are not right. The log of the api-server says more."
    ]


def test_nothing_in_a_label_can_run(client: Callable[..., Any]) -> None:
    page = client("ann").get("/gemini_batch/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'self'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    text = page.text
    assert not re.search(r"<script(?! src=)|style=|onclick|https?://", text)
    script = client("ann").get("/gemini_batch/page.js").text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


def test_airflow_shows_the_page_in_its_menu(airflow: Any) -> None:
    from airflow import plugins_manager
    from airflow.api_fastapi.core_api.datamodels.plugins import PluginResponse

    found = [each for each in plugins_manager.get_plugin_info() if each["name"] == "gemini_batch"]
    (view,) = PluginResponse.model_validate(found[0]).external_views
    assert (view.destination, view.href, view.url_route) == ("nav", "/gemini_batch/", "gemini_batch_jobs")


def test_the_labels_are_those_that_a_submission_sets() -> None:
    from dataclasses import replace

    from airflow_gemini_batch.jobs.identity import marked
    from tests.jobs.test_identity import RUN, SPEC

    labels = marked(SPEC, replace(RUN, installation="tests")).labels
    assert labels[INSTALLATION_LABEL] == "tests"
    assert labels[DAG_LABEL] == label_value(RUN.dag_id)
    assert labels[TASK_LABEL] == label_value(RUN.task_id)
