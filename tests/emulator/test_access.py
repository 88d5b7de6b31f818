"""The emulator of the APIs that say who may do what: it refuses whatever was not granted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.emulator.access.cloud import PROJECT, Cloud, with_all_roles
from airflow_gemini_batch.emulator.server import CLOUD_PATH, Emulator

from .wire import Http

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECTS = "/apis/cloudresourcemanager.googleapis.com/v3/projects"
TESTED = f"{PROJECTS}/local-project:testIamPermissions"
WANTED = {"permissions": ["bigquery.jobs.create", "aiplatform.batchPredictionJobs.create"]}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    # Not that of the other tests, which checks all answers against the description of Vertex AI.
    with Emulator() as running:
        yield running


@pytest.fixture
def http(emulator: Emulator) -> Http:
    return Http(emulator.url)


def test_nothing_is_enabled_or_granted(http: Http, emulator: Emulator) -> None:
    status, answer = http("POST", TESTED, WANTED)
    assert status == 403
    assert answer["error"]["details"][0]["reason"] == "SERVICE_DISABLED"
    emulator.cloud = Cloud(enabled=("cloudresourcemanager.googleapis.com",))
    assert http("POST", TESTED, WANTED) == (200, {})
    assert http("GET", f"{PROJECTS}/local-project")[0] == 403


def test_what_is_granted(http: Http, emulator: Emulator) -> None:
    emulator.cloud = with_all_roles("local-project")
    assert http("POST", TESTED, WANTED) == (200, WANTED)
    assert http("GET", f"{PROJECTS}/local-project")[1]["name"] == "projects/123456789012"


@pytest.mark.parametrize("resource", [PROJECT, "bucket/b"])
def test_a_role_holds_where_it_is_granted(resource: str) -> None:
    cloud = Cloud()
    cloud = replace(cloud, policies={resource: {"roles/storage.objectViewer": (cloud.caller,)}})
    assert cloud.may("storage.objects.get", "bucket/b")
    assert not cloud.may("storage.objects.create", "bucket/b")
    assert cloud.may("storage.objects.get", "bucket/other") is (resource == PROJECT)


def test_another_project_is_refused(http: Http, emulator: Emulator) -> None:
    emulator.cloud = with_all_roles("local-project")
    assert http("GET", f"{PROJECTS}/other")[0] == 403


def test_without_a_token(http: Http) -> None:
    assert http("GET", f"{PROJECTS}/local-project", token=None)[0] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{PROJECTS}/local-project:setIamPolicy"),
        ("GET", "/apis/compute.googleapis.com/v1/projects/p"),
        ("DELETE", f"{PROJECTS}/local-project"),
    ],
)
def test_no_other_methods(method: str, path: str, http: Http, emulator: Emulator) -> None:
    emulator.cloud = with_all_roles("local-project")
    assert http(method, path, {} if method == "POST" else None)[0] == 404


def test_a_query_that_is_no_dry_run_is_refused(http: Http, emulator: Emulator) -> None:
    emulator.cloud = with_all_roles("local-project")
    path = "/apis/bigquery.googleapis.com/bigquery/v2/projects/local-project/queries"
    assert http("POST", path, {"query": "SELECT 1", "dryRun": True})[0] == 200
    assert http("POST", path, {"query": "SELECT 1"})[0] == 400


def test_the_batch_api_asks_only_if_it_is_told_to(http: Http, emulator: Emulator) -> None:
    assert http("GET") == (200, {})
    emulator.cloud = replace(emulator.cloud, guards_jobs=True)
    assert http("GET")[0] == 403
    emulator.cloud = replace(with_all_roles("local-project"), guards_jobs=True)
    assert http("GET") == (200, {})


def test_it_can_be_replaced_while_it_runs(http: Http, emulator: Emulator) -> None:
    status, found = http("GET", CLOUD_PATH)
    assert (status, found["enabled"]) == (200, [])
    changed = {**found, "enabled": ["cloudresourcemanager.googleapis.com"]}
    assert http("PUT", CLOUD_PATH, changed) == (200, changed)
    assert emulator.cloud.enabled == ("cloudresourcemanager.googleapis.com",)
    status, answer = http("PUT", CLOUD_PATH, {"colour": "red"})
    assert status == 400
    assert "cloud.colour" in answer["error"]["message"]
    assert http("DELETE", CLOUD_PATH)[0] == 404
