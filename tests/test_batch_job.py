from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_gemini_batch.batch_job import BatchJob, CompletionStats, JobName, JobState
from airflow_gemini_batch.exceptions import InvalidParameterError

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
    assert str(job.stats) == "no counts yet"


@pytest.mark.parametrize(
    ("info", "location"),
    [
        ({"bigqueryOutputDataset": "bq://p.d", "bigqueryOutputTable": "t"}, "bq://p.d.t"),
        ({"bigqueryOutputTable": "bq://p.d.t"}, "bq://p.d.t"),
    ],
)
def test_an_output_table_has_its_full_name(info: dict[str, str], location: str) -> None:
    assert BatchJob.from_resource({"name": NAME, "outputInfo": info}).output_location == location
