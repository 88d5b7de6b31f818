"""Many files in few jobs, at the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.operators.combine import GeminiBatchCombineInputsOperator
from tests.recorder import Recorder
from tests.small_jobs import MODEL, make_jobs_small

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.cloud import storage

    from tests.conftest import RunningStack

    Put = Callable[..., None]

pytestmark = pytest.mark.usefixtures("stack")


def line(key: str, request: dict[str, Any] | None = None) -> str:
    return json.dumps({"key": key, "request": request or {"contents": [{"parts": [{"text": key}]}]}}) + "\n"


@pytest.fixture
def put(stack: RunningStack, storage_client: storage.Client, bucket: str) -> Put:
    """Stores a file with so many requests."""

    def store(name: str, rows: int = 1, *, newline: bool = True, **request: Any) -> None:
        text = "".join(line(f"{name}-{number}", request) for number in range(rows))
        storage_client.bucket(bucket).blob(name).upload_from_string(text if newline else text.rstrip())

    return store


def combined(input_uri: Any, context: Any, **given: Any) -> list[list[str]]:
    return GeminiBatchCombineInputsOperator(task_id="combine", input_uri=input_uri, **given).execute(context)


def test_small_files_are_one_job_and_nothing_is_read(
    put: Put, stack: RunningStack, bucket: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 0, 1):
        put(f"in/{number}.jsonl", 3)
    files = [f"gs://{bucket}/in/{number}.jsonl" for number in range(3)]
    with Recorder(stack.addresses.storage_url) as recorder:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", recorder.url)
        assert combined(f"gs://{bucket}/in/*.jsonl", context) == [files]
        # A list in any order makes the same groups.
        assert combined(files[::-1], context) == [files]
    ours = [seen for seen in recorder.seen if bucket in seen.path]
    assert ours
    assert not [seen.path for seen in ours if seen.is_download]


def test_the_model_says_how_many_requests_a_job_takes(
    put: Put, bucket: str, context: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_jobs_small(monkeypatch, tmp_path, 6)
    for number in range(4):
        put(f"in/{number}.jsonl", 2, newline=number % 2 == 0)
    groups = combined(f"gs://{bucket}/in/*", context, model=MODEL)
    assert [[uri[-7:] for uri in group] for group in groups] == [
        ["0.jsonl", "1.jsonl"],
        ["2.jsonl", "3.jsonl"],
    ]
    assert combined(f"gs://{bucket}/in/*", context, model=MODEL) == groups
    assert len(combined(f"gs://{bucket}/in/*", context, max_rows=2)) == 4
    assert len(combined(f"gs://{bucket}/in/*", context, max_bytes=200)) == 4


def test_requests_for_vectors_are_recognized(put: Put, bucket: str, context: Any) -> None:
    """About 4 MB, which may be more than 200,000 requests, but are no more than a million."""
    for number in range(2):
        put(f"in/{number}.jsonl", 20_000, content={"parts": [{"text": "x" * 50}]})
    assert len(combined(f"gs://{bucket}/in/*", context)) == 1


def test_a_file_that_no_job_takes_is_refused(put: Put, bucket: str, context: Any) -> None:
    put("in/a.jsonl", 2)
    put("in/b.jsonl", 4)
    with pytest.raises(AirflowFailException, match=rf"split .*: gs://{bucket}/in/b\.jsonl \(4 requests, "):
        combined(f"gs://{bucket}/in/*", context, max_rows=3)


def test_a_file_that_is_given_twice_is_refused(put: Put, bucket: str, context: Any) -> None:
    put("in/a.jsonl")
    with pytest.raises(AirflowFailException, match="given twice, by "):
        combined([f"gs://{bucket}/in/*", f"gs://{bucket}/in/a.jsonl"], context)
    with pytest.raises(InvalidParameterError, match="given twice"):
        combined([f"gs://{bucket}/in/a.jsonl"] * 2, context)


def test_a_wildcard_that_can_be_read_in_two_ways_is_refused(put: Put, bucket: str, context: Any) -> None:
    put("in/a.jsonl")
    put("in/old/b.jsonl")
    with pytest.raises(AirflowFailException, match="read in two ways"):
        combined(f"gs://{bucket}/in/*.jsonl", context)
    assert len(combined(f"gs://{bucket}/in/**.jsonl", context)[0]) == 2


def test_the_output_of_a_job_is_no_input_by_accident(put: Put, bucket: str, context: Any) -> None:
    """Its answers would be asked as requests, and paid again, in the next run."""
    folder = "out/prediction-model-2026-11-01T00:00:00.000000Z"
    put(f"{folder}/predictions.jsonl")
    put("a.jsonl")
    with pytest.raises(AirflowFailException, match="what a job has answered"):
        combined(f"gs://{bucket}/**", context)
    # The output of a job can be completed by another one, if it is meant.
    assert combined(f"gs://{bucket}/{folder}/*", context) == [[f"gs://{bucket}/{folder}/predictions.jsonl"]]


def test_no_files_fail_unless_they_are_allowed(
    put: Put, bucket: str, context: Any, storage_client: storage.Client
) -> None:
    uri = f"gs://{bucket}/in/*.jsonl"
    with pytest.raises(AirflowFailException, match="no such object"):
        combined(uri, context)
    assert combined(uri, context, allow_empty=True) == []
    storage_client.bucket(bucket).blob("in/empty.jsonl").upload_from_string(b"")
    with pytest.raises(AirflowFailException, match="all objects are empty"):
        combined(uri, context)
    put("in/a.jsonl")
    assert combined(uri, context) == [[f"gs://{bucket}/in/a.jsonl"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input_uri": "bq://my-project.my_dataset.requests"}, "a table is one job"),
        ({"input_uri": []}, "give gs://bucket/file.jsonl"),
        ({"max_rows": 0}, "greater than 0"),
        ({"max_bytes": True}, "greater than 0"),
        ({"allow_empty": "yes"}, "give True or False"),
    ],
)
def test_wrong_values_are_refused_when_the_dag_is_parsed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        GeminiBatchCombineInputsOperator(**{"task_id": "combine", "input_uri": "gs://bucket/*", **given})


@pytest.mark.parametrize("files", [1, 2, 32, 70])
def test_composed_files_have_all_lines(
    put: Put, bucket: str, context: Any, storage_client: storage.Client, files: int
) -> None:
    """Also if a file lacks its last newline, which must not join two lines."""
    names = [f"in/{number:03}.jsonl" for number in range(files)]
    for number, name in enumerate(names):
        put(name, 2, newline=number % 3 != 0)
    compose = {"compose_into": f"gs://{bucket}/composed"}
    ((uri,),) = combined(f"gs://{bucket}/in/*", context, **compose)
    text = storage_client.bucket(bucket).blob(uri.split("/", 3)[3]).download_as_bytes().decode()
    keys = [json.loads(each)["key"] for each in text.splitlines()]
    assert keys == [f"{name}-{number}" for name in names for number in range(2)]
    left = [blob.name for blob in storage_client.list_blobs(bucket, prefix="composed")]
    assert left == ([] if files == 1 else [uri.split("/", 3)[3]])
    # A retry, and files that are written again unchanged, make the same object.
    put(names[0], 2, newline=False)
    assert combined(f"gs://{bucket}/in/*", context, **compose) == [[uri]]
    put(names[-1], 3)
    assert (combined(f"gs://{bucket}/in/*", context, **compose) == [[uri]]) == (files == 1)


def test_what_cannot_be_composed_is_refused(
    put: Put, bucket: str, context: Any, storage_client: storage.Client
) -> None:
    put("in/a.jsonl")
    put("in/b.jsonl")
    with pytest.raises(AirflowFailException, match="only objects of one bucket"):
        combined(f"gs://{bucket}/in/*", context, compose_into="gs://other-bucket/composed")
    with pytest.raises(AirflowFailException, match="another run would ask for these requests twice"):
        combined(f"gs://{bucket}/in/**", context, compose_into=f"gs://{bucket}/in/composed")
    assert len(list(storage_client.list_blobs(bucket))) == 2
