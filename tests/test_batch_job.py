from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_gemini_batch.batch_job import (
    BatchJob,
    CompletionStats,
    JobError,
    JobName,
    JobState,
    check_place,
)
from airflow_gemini_batch.exceptions import InvalidParameterError, UnreadableResponseError

NAME = "projects/p/locations/us-central1/batchPredictionJobs/42"


def test_five_states_are_terminal() -> None:
    assert {s.name for s in JobState if s.is_terminal} == {
        "SUCCEEDED",
        "PARTIALLY_SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "EXPIRED",
    }
    assert {s.name for s in JobState if s.is_success} == {"SUCCEEDED", "PARTIALLY_SUCCEEDED"}


@pytest.mark.parametrize("unknown", [None, "", "JOB_STATE_DREAMING"])
def test_an_unknown_state_is_not_terminal(unknown: str | None) -> None:
    assert JobState.parse(unknown) is JobState.UNSPECIFIED
    assert not JobState.parse(unknown).is_terminal


def test_a_job_name_round_trips() -> None:
    assert str(JobName.parse(NAME)) == NAME
    assert JobName.parse(NAME).parent == "projects/p/locations/us-central1"


@pytest.mark.parametrize(
    "bad", ["42", "", None, "projects/p/batchPredictionJobs/1", NAME + "/x", NAME + "\n"]
)
def test_anything_but_a_full_resource_name_is_rejected(bad: str | None) -> None:
    with pytest.raises(InvalidParameterError, match="full resource name"):
        JobName.parse(bad)  # type: ignore[arg-type]


def test_a_resource_is_parsed_as_the_service_sends_it() -> None:
    job = BatchJob.from_resource(
        {
            "name": NAME,
            "state": "JOB_STATE_FAILED",
            "displayName": "d",
            "model": "publishers/google/models/m",
            "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://b/a", "gs://b/c"]}},
            "outputConfig": {"gcsDestination": {"outputUriPrefix": "gs://b/out"}},
            "outputInfo": {"gcsOutputDirectory": "gs://b/out/prediction-model-x"},
            "completionStats": {"successfulCount": "7", "failedCount": "1", "incompleteCount": "-1"},
            "error": {"code": 3, "message": "m", "details": [{"@type": "x"}]},
            "createTime": "2026-01-01T00:00:00.123456789Z",
            "startTime": "2026-01-01T00:00:00.5Z",
            "endTime": "2026-01-01T01:00:00+00:00",
        }
    )
    assert job.stats == CompletionStats(7, 1, None)
    assert job.input_uris == ("gs://b/a", "gs://b/c")
    assert job.output_location == "gs://b/out/prediction-model-x"
    assert job.error is not None
    assert job.error.code == 3
    assert job.create_time == datetime(2026, 1, 1, microsecond=123456, tzinfo=UTC)
    assert job.start_time == datetime(2026, 1, 1, microsecond=500000, tzinfo=UTC)
    assert job.end_time is not None
    assert job.end_time.utcoffset() == timedelta(0)


def test_nearly_every_field_is_optional() -> None:
    job = BatchJob.from_resource({"name": NAME, "outputInfo": None, "completionStats": None})
    assert job.state is JobState.UNSPECIFIED
    assert job.input_uris == ()
    assert job.output_location is None
    assert str(job.stats) == "no counts"


@pytest.mark.parametrize(
    ("info", "location"),
    [
        ({"bigqueryOutputDataset": "bq://p.d", "bigqueryOutputTable": "t"}, "bq://p.d.t"),
        ({"bigqueryOutputTable": "bq://p.d.t"}, "bq://p.d.t"),
    ],
)
def test_an_output_table_has_its_full_name(info: dict[str, str], location: str) -> None:
    assert BatchJob.from_resource({"name": NAME, "outputInfo": info}).output_location == location


# What could make another host, port, path or query of the URL that a location, project or ID becomes part of.
NOT_A_LABEL = [
    f"{before}{odd}{after}"
    for odd in (".", "/", ":", "#", "?", "@", "%", "%23", "\\", " ", "\n", "\t", "\0", "..", "é", "ⅰ", "٣")
    for before, after in (("localhost", "8080"), ("", "x"), ("x", ""))
]


@pytest.mark.parametrize("location", [*NOT_A_LABEL, "", "-a", "a-", "US", "1a", "a" * 64])
def test_a_job_name_does_not_choose_the_host(location: str) -> None:
    with pytest.raises(InvalidParameterError, match="job_name="):
        JobName.parse(f"projects/p/locations/{location}/batchPredictionJobs/1")
    with pytest.raises(InvalidParameterError, match="location="):
        check_place("p", location)


@pytest.mark.parametrize(
    "project", [*(each for each in NOT_A_LABEL if each != "x."), "", "p/../q", "a.b:c:d", ".a:b"]
)
def test_a_project_is_an_id_or_a_number(project: str) -> None:
    with pytest.raises(InvalidParameterError, match="job_name="):
        JobName.parse(f"projects/{project}/locations/us-central1/batchPredictionJobs/1")
    with pytest.raises(InvalidParameterError, match="project_id="):
        check_place(project, "us-central1")


@pytest.mark.parametrize("job_id", [*NOT_A_LABEL, "", "1:cancel"])
def test_an_id_is_one_segment_of_a_path(job_id: str) -> None:
    with pytest.raises(InvalidParameterError, match="job_name="):
        JobName.parse(f"projects/p/locations/us-central1/batchPredictionJobs/{job_id}")


@pytest.mark.parametrize(
    "location", ["us-central1", "global", "us", "eu", "europe-west12", "me-central2", "mars1"]
)
@pytest.mark.parametrize("project", ["my-project-1", "123456789", "example.com:my-project"])
def test_places_that_exist_are_accepted(project: str, location: str) -> None:
    name = f"projects/{project}/locations/{location}/batchPredictionJobs/4711"
    assert str(JobName.parse(name)) == name
    check_place(project, location)


ODD = [None, 7, 7.5, True, "x", "", [], ["a"], {}, {"a": 1}, "9" * 5000, -1, float("1e400")]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(
    "member",
    [
        "state",
        "displayName",
        "model",
        "inputConfig",
        "outputConfig",
        "outputInfo",
        "completionStats",
        "error",
        "createTime",
        "endTime",
        "labels",
    ],
)
def test_an_odd_member_hides_no_other(member: str, value: Any) -> None:
    good = {
        "name": NAME,
        "state": "JOB_STATE_RUNNING",
        "displayName": "d",
        "createTime": "2026-01-01T00:00:00Z",
    }
    job = BatchJob.from_resource({**good, member: value})
    assert str(job.name) == NAME
    assert member == "state" or job.state is JobState.RUNNING
    assert member == "displayName" or job.display_name == "d"
    assert member == "createTime" or job.create_time == datetime(2026, 1, 1, tzinfo=UTC)
    assert isinstance(job.display_name, str)
    assert isinstance(dict(job.labels), dict)
    assert str(job.stats)


@pytest.mark.parametrize(
    "value", ["x", "1.0", "-5", -1, 1.5, True, "9" * 5000, "٣", [], float("inf"), float("nan")]
)
def test_an_odd_count_is_unknown(value: Any) -> None:
    stats = CompletionStats.from_resource({"successfulCount": value, "failedCount": "2"})
    assert stats == CompletionStats(None, 2, 0)


@pytest.mark.parametrize(("value", "count"), [("12", 12), (12, 12), (1.0, 1), (None, 0), ("0", 0)])
def test_a_count_is_a_number_or_its_text(value: Any, count: int) -> None:
    assert CompletionStats.from_resource({"successfulCount": value}).successful == count


@pytest.mark.parametrize("value", ["yesterday", 1795723016, "2026-12-31T23:59:60Z", "", [], "9" * 5000])
def test_an_odd_time_is_unknown(value: Any) -> None:
    assert BatchJob.from_resource({"name": NAME, "endTime": value}).end_time is None


def test_a_time_without_an_offset_is_in_utc() -> None:
    job = BatchJob.from_resource({"name": NAME, "endTime": "2026-01-01T00:00:00"})
    assert job.end_time == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "parsed"),
    [
        ("boom", JobError(0, "boom")),
        ({"code": "NOT_FOUND"}, JobError(0, "")),
        ({"code": "5"}, JobError(5, "")),
    ],
)
def test_an_odd_error_is_still_one(error: Any, parsed: JobError) -> None:
    assert BatchJob.from_resource({"name": NAME, "error": error}).error == parsed


@pytest.mark.parametrize("resource", [{}, [], None, "x", 7, {"name": None}, {"name": "1"}, {"name": ["a"]}])
def test_what_has_no_name_is_no_job(resource: Any) -> None:
    with pytest.raises(UnreadableResponseError, match="without a valid name"):
        BatchJob.from_resource(resource)
