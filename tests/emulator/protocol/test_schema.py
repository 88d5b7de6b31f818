"""Checks of request bodies against the discovery documents."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_gemini_batch.emulator.protocol.schema import Discovery

JOB = "GoogleCloudAiplatformV1BatchPredictionJob"


@pytest.fixture(scope="module")
def discovery() -> Discovery:
    return Discovery.load("aiplatform", "v1")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"foo": 1}, "Invalid JSON payload received. Unknown name \"foo\" at 'job': Cannot find field."),
        (
            {"inputConfig": {"foo": 1}},
            "Invalid JSON payload received. Unknown name \"foo\" at 'job.input_config': Cannot find field.",
        ),
        ({"displayName": 5}, "Invalid value at 'job.display_name' (TYPE_STRING), 5"),
        ({"generateExplanation": "yes"}, "Invalid value at 'job.generate_explanation' (TYPE_BOOL), \"yes\""),
        ({"labels": {"a": 1}}, "Invalid value at 'job.labels[a]' (TYPE_STRING), 1"),
        ({"labels": ["a"]}, "not repeating, cannot start list."),
        ({"model": ["a"]}, "not repeating, cannot start list."),
        ({"inputConfig": "x"}, "Invalid value at 'job.input_config' (type.googleapis.com/"),
        ({"state": "RUNNING"}, "Invalid value at 'job.state' (TYPE_ENUM), \"RUNNING\""),
        ({"manualBatchTuningParameters": {"batchSize": "many"}}, '(TYPE_INT32), "many"'),
        ({"manualBatchTuningParameters": {"batchSize": 2**31}}, "(TYPE_INT32)"),
        (
            {"inputConfig": {"gcsSource": {"uris": ["a", 1]}}},
            "'job.input_config.gcs_source.uris[1]' (TYPE_STRING)",
        ),
    ],
)
def test_invalid_values_are_refused(discovery: Discovery, body: dict[str, Any], complaint: str) -> None:
    violations = discovery.violations(JOB, body, "job")
    assert len(violations) == 1
    assert complaint in violations[0].description


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"display_name": "snake", "input_config": {"gcs_source": {"uris": "one"}}},
        {"displayName": None},
        {"manualBatchTuningParameters": {"batchSize": "64"}},
        {"modelParameters": {"any": ["thing"]}},
        {"state": "job_state_running"},
    ],
)
def test_values_that_the_service_accepts_but_never_writes(discovery: Discovery, body: dict[str, Any]) -> None:
    assert discovery.violations(JOB, body) == []
    if body and "modelParameters" not in body:
        assert discovery.violations(JOB, body, strict=True) != []


def test_responses_have_int64_as_strings_and_times_in_utc(discovery: Discovery) -> None:
    fine = {"completionStats": {"successfulCount": "3"}, "createTime": "2026-01-01T00:00:00.123456Z"}
    assert discovery.violations(JOB, fine, strict=True) == []
    for wrong in ({"completionStats": {"successfulCount": 3}}, {"createTime": "2026-01-01 00:00:00"}):
        assert len(discovery.violations(JOB, wrong, strict=True)) == 1


def test_only_writable_fields_are_kept(discovery: Discovery) -> None:
    body = {
        "display_name": "x",
        "state": "JOB_STATE_FAILED",
        "model": None,
        "input_config": {"gcs_source": {"uris": "gs://a"}},
        "labels": {"snake_key": "v"},
    }
    assert discovery.writable(JOB, body) == {
        "displayName": "x",
        "inputConfig": {"gcsSource": {"uris": ["gs://a"]}},
        "labels": {"snake_key": "v"},
    }


@pytest.mark.parametrize(
    ("api", "version", "http_method", "path", "id_"),
    [
        ("aiplatform", "v1beta1", "POST", "/v1beta1/projects/p/locations/l/batchPredictionJobs", "create"),
        ("aiplatform", "v1", "GET", "/v1/projects/p/locations/l/batchPredictionJobs/7", "get"),
        ("aiplatform", "v1", "POST", "/v1/projects/p/locations/l/batchPredictionJobs/7:cancel", "cancel"),
        ("bigquery", "v2", "POST", "/bigquery/v2/projects/p/jobs", "insert"),
        ("storage", "v1", "GET", "/storage/v1/b/bucket/o", "list"),
    ],
)
def test_methods_are_found_by_their_path(
    api: str, version: str, http_method: str, path: str, id_: str
) -> None:
    method = Discovery.load(api, version).method(http_method, path)
    assert method
    assert method.id.endswith(f".{id_}")


def test_a_path_without_a_method(discovery: Discovery) -> None:
    assert discovery.method("PATCH", "/v1/projects/p/locations/l/batchPredictionJobs/7") is None
