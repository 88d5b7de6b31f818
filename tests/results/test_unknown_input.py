"""Inputs that have moved, changed or gone since their job was created."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import CompletionStats
from airflow_gemini_batch.exceptions import QualityGateError
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.jobs.identity import Mark, content_key
from airflow_gemini_batch.jobs.input_facts import checksum, content_of
from airflow_gemini_batch.results.gates import Gates
from airflow_gemini_batch.results.outputs import Objects, find_input
from airflow_gemini_batch.results.row_status import RowStatus
from tests.results.lines import answered, as_json, asked, request

if TYPE_CHECKING:
    from google.cloud.storage import Blob

    from tests.results.conftest import Lander

HOUR = timedelta(hours=1)


def stored(lander: Lander) -> Blob:
    lander.put_input(asked("a", "first"))
    blob = lander.storage.bucket(lander.bucket).blob(f"{lander.job_id}/input.jsonl")
    blob.reload()
    return blob


def test_an_object_with_new_metadata_is_the_same_input(lander: Lander) -> None:
    """Its time ``updated`` moves, but neither its generation nor the time that this was created."""
    blob = stored(lander)
    created, generation = blob.time_created, blob.generation
    job = lander.job(create_time=created, start_time=created)
    known = replace(job, display_name=named_for(content_of([blob])))
    before = [find_input(each, lander.storage, lander.bigquery) for each in (job, known)]
    time.sleep(0.01)
    blob.metadata = {"checked": "yes"}
    blob.patch()
    assert blob.updated > created
    assert blob.generation == generation
    assert None not in before
    assert [find_input(each, lander.storage, lander.bigquery) for each in (job, known)] == before


def test_an_object_that_was_written_again_is_the_same_input_if_its_checksum_is_known(lander: Lander) -> None:
    blob = stored(lander)
    job = lander.job(create_time=blob.time_created - HOUR)
    known = replace(job, display_name=named_for(content_of([blob])))
    generation = blob.generation
    blob.upload_from_string(blob.download_as_bytes())
    assert blob.generation != generation
    assert find_input(job, lander.storage, lander.bigquery) is None
    assert find_input(known, lander.storage, lander.bigquery) is not None


def named_for(content: tuple[str, ...] | None) -> str:
    """The display name of a job whose input had this content."""
    assert content
    return f"dag.submit {Mark('0' * 24, '0' * 12, content_key(content)).text}"


def test_an_object_in_another_storage_class_is_the_same_input(lander: Lander) -> None:
    blob = stored(lander)
    job = lander.job(create_time=blob.time_created - HOUR, display_name=named_for(content_of([blob])))
    blob.update_storage_class("NEARLINE")
    assert find_input(job, lander.storage, lander.bigquery) is not None
    blob.upload_from_string(blob.download_as_text().replace("first", "other"))
    assert find_input(job, lander.storage, lander.bigquery) is None


def test_a_wildcard_that_can_be_read_in_two_ways(lander: Lander) -> None:
    """The objects are those whose content the job records; else those within the folder."""
    place = f"gs://{lander.bucket}/{lander.job_id}/in"
    uris = [f"{place}/a.jsonl", f"{place}/old/b.jsonl"]
    lander.put("in/a.jsonl", [asked("a")])
    lander.put("in/old/b.jsonl", [asked("b")])
    blobs = list(lander.storage.list_blobs(lander.bucket, prefix=f"{lander.job_id}/in/"))
    for known, expected in ((blobs[:1], uris[:1]), (blobs, uris), ([], uris[:1])):
        name = named_for(content_of(known)) if known else ""
        job = lander.job(input_uris=(f"{place}/*.jsonl",), display_name=name)
        found = find_input(job, lander.storage, lander.bigquery)
        assert isinstance(found, Objects)
        assert found.uris == expected
    job = lander.job(input_uris=(f"{place}/*.jsonl",), display_name=named_for(content_of(blobs[1:])))
    assert find_input(job, lander.storage, lander.bigquery) is None
    lander.put_output(answered("a"))
    assert lander.land(job=lander.job(input_uris=(f"{place}/*.jsonl",))).input_rows == 1


def test_a_table_with_a_new_description_is_the_same_input(lander: Lander) -> None:
    kinds, name = {"key": "STRING", "request": "JSON"}, "described"
    uri = lander.put_table(name, kinds, [{"key": "a", "request": request("first")}])
    table = lander.bigquery.get_table(uri.removeprefix("bq://"))
    content = checksum(TableName.parse(uri), lander.bigquery)
    job = lander.job(input_uris=(uri,), create_time=table.modified - HOUR, display_name=named_for(content))
    table.description = "requests of May"
    lander.bigquery.update_table(table, ["description"])
    assert find_input(job, lander.storage, lander.bigquery) is not None
    lander.bigquery.query_and_wait(f"UPDATE `{TableName.parse(uri)}` SET key = 'b' WHERE TRUE")
    assert find_input(job, lander.storage, lander.bigquery) is None


def test_an_object_written_after_the_job_was_created_is_another_input(lander: Lander) -> None:
    """Also when it was written before the job has started: it may have been read by then."""
    created = stored(lander).time_created
    job = lander.job(create_time=created - HOUR, start_time=created + HOUR)
    assert find_input(job, lander.storage, lander.bigquery) is None


def test_a_table_written_after_the_job_was_created_gives_no_requests(lander: Lander) -> None:
    """Its keys are the same, but its prompts are not those of the job."""
    kinds = {"key": "STRING", "request": "JSON"}
    uri = lander.put_table("input", kinds, [{"key": "a", "request": request("second")}])
    modified = lander.bigquery.get_table(uri.removeprefix("bq://")).modified
    lander.put_output(answered("a", {}, text="first", status="Too Many Requests"))
    times = {"create_time": modified - HOUR, "start_time": modified + HOUR}
    manifest = lander.land(job=lander.job(input_uris=(uri,), **times))
    assert not manifest.input_known
    assert as_json(lander.errors()["a"]["request"]) == request("first")


def test_rows_that_are_missing_count_although_the_input_is_gone(
    lander: Lander, caplog: pytest.LogCaptureFixture
) -> None:
    lander.put_output(answered("a"))
    manifest = lander.land(job=lander.job(stats=CompletionStats(1, 0, 3)))
    assert (manifest.input_rows, manifest.rows, manifest.counts[RowStatus.MISSING]) == (4, 4, 3)
    assert manifest.to_dict()["input_known"] is False
    assert "reports 4 rows; missing in the output: 3" in caplog.text
    manifest.check_rows()
    with pytest.raises(QualityGateError, match="1 of 4 rows"):
        Gates(min_success_ratio=0.9).check(manifest)
    # They have rows, so that gates after a retry count them too; they cannot be asked again.
    found = lander.query(f"SELECT key, retryable, error_message FROM {lander.error_table.quoted}")
    assert [(row["key"], row["retryable"]) for row in found] == [(None, False)] * 3
    assert "the input that would show which are missing is unknown" in found[0]["error_message"]
    assert lander.land(job=lander.job(stats=CompletionStats(1, 0, 3))) == manifest


@pytest.mark.parametrize("stats", [CompletionStats(), CompletionStats(1, 0, None)], ids=["unknown", "fewer"])
def test_without_better_numbers_the_rows_of_the_input_are_unknown(lander: Lander, stats: Any) -> None:
    lander.put_output(answered("a"), answered("b"))
    manifest = lander.land(job=lander.job(stats=stats))
    assert (manifest.input_rows, manifest.rows) == (None, 2)
